//! The Payment object of version 2022-11-16, and a line of the transactions list.

use super::MID;
use super::cancel::{Cancel, CancelStatus};
use super::money::{number_of, vat_of};
use super::payment::{Method, Payment, Status, wrong};
use crate::clock::seoul_with_zone;
use crate::fault::Fault;
use serde_json::{Value, json};
use service_kit::money::Currency;

/// The version of the object.
const VERSION: &str = "2022-11-16";

/// The whole object.
pub fn payment(payment: &Payment, public_url: &str) -> Value {
    let asked = &payment.asked;
    let number = |minor| number_of(minor, asked.currency);
    let vat = vat_of(payment.balance, 0);
    let page = |kind: &str| json!({ "url": format!("{public_url}/toss/{kind}/{}", payment.key) });
    let confirmed = payment.transaction.is_some();
    let latest = payment.cancels.last().map(|cancel| &cancel.transaction).or(payment.transaction.as_ref());
    json!({
        "mId": MID,
        "version": VERSION,
        "paymentKey": payment.key,
        "type": "NORMAL",
        "orderId": asked.order_id,
        "orderName": asked.order_name,
        "currency": asked.currency.code(),
        "country": "KR",
        "method": confirmed.then(|| asked.method.name()),
        "lastTransactionKey": latest,
        "totalAmount": number(payment.total),
        "balanceAmount": number(payment.balance),
        "suppliedAmount": number(payment.balance - vat),
        "vat": number(vat),
        "taxFreeAmount": 0,
        "taxExemptionAmount": 0,
        "discount": null,
        "status": payment.status,
        "requestedAt": seoul_with_zone(payment.requested_ms),
        "approvedAt": payment.approved_ms.map(seoul_with_zone),
        "isPartialCancelable": true,
        "useEscrow": false,
        "cultureExpense": false,
        "failure": payment.failure.map(|refusal| json!({ "code": refusal.code, "message": refusal.ko })),
        "secret": confirmed.then_some(payment.secret.as_str()),
        "metadata": null,
        "receipt": confirmed.then(|| page("receipt")),
        "checkout": page("pay"),
        "cashReceipt": null,
        "cashReceipts": null,
        "card": (confirmed && asked.method == Method::Card).then(|| card(payment)),
        "virtualAccount": (confirmed && asked.method == Method::VirtualAccount).then(|| account(payment)),
        "transfer": null,
        "mobilePhone": null,
        "giftCertificate": null,
        "easyPay": null,
        "cancels": (!payment.cancels.is_empty()).then(|| cancels(payment)),
    })
}

fn card(payment: &Payment) -> Value {
    json!({
        "issuerCode": "61",
        "acquirerCode": "31",
        "number": "43301234****123*",
        "installmentPlanMonths": 0,
        "isInterestFree": false,
        "interestPayer": null,
        "approveNo": "00000000",
        "useCardPoint": false,
        "cardType": "신용",
        "ownerType": "개인",
        "acquireStatus": "READY",
        "amount": number_of(payment.total, payment.asked.currency),
    })
}

fn account(payment: &Payment) -> Value {
    let digits: String = payment.key.bytes().rev().take(12).map(|b| char::from(b'0' + b % 10)).collect();
    json!({
        "accountType": "일반",
        "accountNumber": format!("X{digits}"),
        "bankCode": "20",
        "customerName": "모의구매자",
        "dueDate": seoul_with_zone(payment.requested_ms.saturating_add(7 * 86_400_000)),
        "refundStatus": "NONE",
        "expired": false,
        "settlementStatus": "INCOMPLETED",
        "refundReceiveAccount": null,
    })
}

fn cancels(payment: &Payment) -> Vec<Value> {
    payment.cancels.iter().map(|cancel| one_cancel(payment, cancel)).collect()
}

/// One member of `cancels`.
pub fn one_cancel(payment: &Payment, cancel: &Cancel) -> Value {
    let number = |minor| number_of(minor, payment.asked.currency);
    json!({
        "transactionKey": cancel.transaction,
        "cancelReason": cancel.reason,
        "cancelAmount": number(cancel.amount),
        "taxFreeAmount": number(cancel.tax_free),
        "taxExemptionAmount": 0,
        "refundableAmount": number(cancel.refundable),
        "easyPayDiscountAmount": 0,
        "transferDiscountAmount": 0,
        "cardDiscountAmount": 0,
        "canceledAt": seoul_with_zone(cancel.at_ms),
        "receiptKey": null,
        "cancelStatus": cancel.status.name(),
        "cancelRequestId": cancel.request_id,
    })
}

/// Says something else than the truth about amount, currency or order.
pub fn falsify(object: &mut Value, payment: &Payment, fault: Option<Fault>, cancelling: bool) {
    let currency = payment.asked.currency;
    let mut put = |pointer: &str, value: Value| {
        if let Some(member) = object.pointer_mut(pointer) {
            *member = value;
        }
    };
    match fault {
        Some(Fault::WrongAmount) if cancelling => {
            if let (Some(last), n) = (payment.cancels.last(), payment.cancels.len()) {
                put(&format!("/cancels/{}/cancelAmount", n.saturating_sub(1)), number_of(wrong(last.amount), currency));
            }
        }
        Some(Fault::WrongAmount) => put("/totalAmount", number_of(wrong(payment.total), currency)),
        Some(Fault::WrongCurrency) => {
            let other = if currency == Currency::USD { Currency::KRW } else { Currency::USD };
            put("/currency", other.code().into());
        }
        Some(Fault::WrongOrder) => put("/orderId", format!("{}-other", payment.asked.order_id).into()),
        _ => {}
    }
}

/// A movement of money: the payment, or one of its cancels.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// When.
    pub at_ms: i64,
    /// Its key.
    pub key: String,
    /// As JSON.
    pub json: Value,
}

/// The movements of a payment.
pub fn lines(payment: &Payment, public_url: &str) -> Vec<Line> {
    let asked = &payment.asked;
    let line = |at_ms: i64, key: &str, status: Status, amount: i64| Line {
        at_ms,
        key: key.to_owned(),
        json: json!({
            "mId": MID,
            "transactionKey": key,
            "paymentKey": payment.key,
            "orderId": asked.order_id,
            "method": asked.method.name(),
            "customerKey": asked.customer_key,
            "useEscrow": false,
            "receiptUrl": format!("{public_url}/toss/receipt/{}", payment.key),
            "status": status,
            "transactionAt": seoul_with_zone(at_ms),
            "currency": asked.currency.code(),
            "amount": number_of(amount, asked.currency),
        }),
    };
    let mut lines = Vec::new();
    if let (Some(at_ms), Some(key)) = (payment.approved_ms, &payment.transaction) {
        lines.push(line(at_ms, key, Status::Done, payment.total));
    }
    let moved = payment.cancels.iter().filter(|c| c.status != CancelStatus::Aborted && payment.approvals > 0);
    lines.extend(moved.map(|cancel| {
        let whole = cancel.amount == payment.total;
        let status = if whole { Status::Canceled } else { Status::PartialCanceled };
        line(cancel.at_ms, &cancel.transaction, status, cancel.amount)
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::payment::tests::{confirmed, ready};
    use super::*;

    #[test]
    fn the_object_follows_the_payment() {
        let before = payment(&ready(Method::Card), "http://sim");
        assert_eq!(
            (&before["status"], &before["method"], &before["secret"]),
            (&json!("READY"), &json!(null), &json!(null))
        );
        let done = payment(&confirmed(Method::Card), "http://sim");
        assert_eq!(
            (&done["status"], &done["method"], &done["totalAmount"]),
            (&json!("DONE"), &json!("카드"), &json!(12_900))
        );
        assert_eq!((&done["suppliedAmount"], &done["vat"]), (&json!(11_727), &json!(1_173)));
        assert_eq!((&done["card"]["amount"], &done["virtualAccount"]), (&json!(12_900), &json!(null)));
        let account = payment(&confirmed(Method::VirtualAccount), "http://sim");
        assert_eq!((&account["status"], &account["approvedAt"]), (&json!("WAITING_FOR_DEPOSIT"), &json!(null)));
        assert!(account["virtualAccount"]["accountNumber"].as_str().unwrap().starts_with('X'));
    }

    #[test]
    fn a_lie_is_told_where_it_was_asked() {
        let truth = confirmed(Method::Card);
        for (fault, pointer, told) in [
            (Fault::WrongAmount, "/totalAmount", json!(13_000)),
            (Fault::WrongCurrency, "/currency", json!("USD")),
            (Fault::WrongOrder, "/orderId", json!("order-1-other")),
        ] {
            let mut object = payment(&truth, "http://sim");
            falsify(&mut object, &truth, Some(fault), false);
            assert_eq!(object.pointer(pointer), Some(&told));
        }
    }

    #[test]
    fn every_movement_of_money_is_a_line() {
        let mut paid = confirmed(Method::Card);
        let asked = super::super::cancel::CancelAsked { reason: "x".into(), amount: Some(900), ..Default::default() };
        paid.cancel(&asked, super::super::cancel::CancelHow::Done, "t-1".into(), 9).unwrap();
        let lines = lines(&paid, "http://sim");
        let told: Vec<(&str, &str, i64)> = lines
            .iter()
            .map(|l| (l.key.as_str(), l.json["status"].as_str().unwrap(), l.json["amount"].as_i64().unwrap()))
            .collect();
        assert_eq!(told, [("t-0", "DONE", 12_900), ("t-1", "PARTIAL_CANCELED", 900)]);
        assert!(super::lines(&ready(Method::Card), "http://sim").is_empty());
    }
}
