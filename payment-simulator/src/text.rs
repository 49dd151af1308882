//! The words of the pages in Korean and English.

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// Korean, the default.
    Ko,
    /// English.
    En,
}

impl Lang {
    /// From `?lang=`, else from `Accept-Language`: the first of our languages in the client's order.
    pub fn choose(asked: Option<&str>, accept: Option<&str>) -> Self {
        let known = |tag: &str| match tag.trim().get(..2)?.to_ascii_lowercase().as_str() {
            "ko" => Some(Self::Ko),
            "en" => Some(Self::En),
            _ => None,
        };
        let accepted = || accept.and_then(|list| list.split(',').find_map(known));
        asked.and_then(known).or_else(accepted).unwrap_or(Self::Ko)
    }
    /// The value of the attribute `lang`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
        }
    }
    /// The words.
    pub fn words(self) -> &'static Words {
        match self {
            Self::Ko => &KO,
            Self::En => &EN,
        }
    }
}

/// Every sentence of the pages.
#[derive(Debug)]
pub struct Words {
    pub kakaopay_title: &'static str,
    pub toss_title: &'static str,
    pub stripe_title: &'static str,
    pub simulated: &'static str,
    pub item: &'static str,
    pub order: &'static str,
    pub amount: &'static str,
    pub quantity: &'static str,
    pub scan: &'static str,
    pub qr: &'static str,
    pub link: &'static str,
    pub until: &'static str,
    pub here: &'static str,
    pub pay: &'static str,
    pub decline: &'static str,
    pub wrong_password: &'static str,
    pub cancel: &'static str,
    pub other_language: &'static str,
    pub other_language_tag: &'static str,
    pub ended_title: &'static str,
    pub ended: &'static str,
    pub receipt_title: &'static str,
    pub missing_title: &'static str,
    pub missing: &'static str,
}

static KO: Words = Words {
    kakaopay_title: "카카오페이 결제 (모의)",
    toss_title: "토스페이먼츠 결제 (모의)",
    stripe_title: "스트라이프 결제 (모의)",
    simulated: "시험용 결제 화면입니다. 실제 돈은 움직이지 않습니다.",
    item: "상품",
    order: "주문 번호",
    amount: "결제 금액",
    quantity: "수량",
    scan: "휴대전화로 결제하기",
    qr: "휴대전화 결제 화면으로 가는 QR 코드",
    link: "QR 코드를 찍을 수 없으면 이 주소를 여세요.",
    until: "이 시각까지 결제할 수 있습니다 (한국 시각)",
    here: "이 화면에서 결제하기",
    pay: "결제하기",
    decline: "거절 (결제 수단 오류)",
    wrong_password: "거절 (비밀번호 오류)",
    cancel: "결제 취소",
    other_language: "English",
    other_language_tag: "en",
    ended_title: "끝난 결제입니다",
    ended: "이 결제는 이미 끝났거나 시간이 지났습니다. 쇼핑몰의 주문 화면에서 결과를 확인하세요.",
    receipt_title: "영수증 (모의)",
    missing_title: "결제를 찾을 수 없습니다",
    missing: "주소가 잘못되었거나 모의 결제 서버가 다시 시작되었습니다. 쇼핑몰에서 결제를 다시 시작하세요.",
};

static EN: Words = Words {
    kakaopay_title: "KakaoPay payment (simulated)",
    toss_title: "Toss Payments payment (simulated)",
    stripe_title: "Stripe payment (simulated)",
    simulated: "This is a payment page for tests. No real money moves.",
    item: "Item",
    order: "Order",
    amount: "Amount",
    quantity: "Quantity",
    scan: "Pay with your phone",
    qr: "QR code that opens the payment page on a phone",
    link: "If you cannot scan the code, open this address.",
    until: "You can pay until (Korean time)",
    here: "Pay on this page",
    pay: "Pay",
    decline: "Decline (refused)",
    wrong_password: "Decline (wrong password)",
    cancel: "Cancel the payment",
    other_language: "한국어",
    other_language_tag: "ko",
    ended_title: "This payment has ended",
    ended: "It was finished before or its time is over. See the result on the order page of the shop.",
    receipt_title: "Receipt (simulated)",
    missing_title: "There is no such payment",
    missing: "The address is wrong or the simulator was started again. Begin the payment again in the shop.",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_asked_one_then_the_first_accepted_one() {
        for (asked, accept, lang) in [
            (None, None, Lang::Ko),
            (Some("en"), Some("ko"), Lang::En),
            (Some("fr"), Some("de-DE, en-GB;q=0.8, ko;q=0.5"), Lang::En),
            (None, Some("ko-KR,ko;q=0.9,en;q=0.8"), Lang::Ko),
            (None, Some("é"), Lang::Ko),
        ] {
            assert_eq!(Lang::choose(asked, accept), lang, "{asked:?} {accept:?}");
        }
    }
}
