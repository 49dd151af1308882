//! Every sentence of the pages, Korean and English side by side. A table: longer than other files.
//!
//! A sentence that exists in one language only does not compile. `{name}` is filled by [`fill`]; the
//! test below proves that both languages have the same places.

macro_rules! texts {
    ($($key:ident { $ko:literal $en:literal })*) => {
        /// The sentences of one language; each key is explained by its English sentence.
        #[derive(Debug)]
        pub struct Text { $(pub $key: &'static str,)* }
        /// 한국어.
        pub static KO: Text = Text { $($key: $ko,)* };
        /// English.
        pub static EN: Text = Text { $($key: $en,)* };
        /// Key, Korean, English: for tests.
        #[cfg(test)]
        pub const ALL: &[(&str, &str, &str)] = &[$((stringify!($key), $ko, $en),)*];
    };
}

texts! {
    // frame
    site { "플러드게이트 타임딜" "Floodgate time deals" }
    skip { "본문으로 건너뛰기" "Skip to content" }
    nav_main { "주 메뉴" "Main" }
    nav_language { "언어" "Language" }
    nav_deals { "딜" "Deals" }
    nav_orders { "내 주문" "My orders" }
    nav_login { "로그인" "Sign in" }
    nav_signup { "회원가입" "Sign up" }
    logout { "로그아웃" "Sign out" }
    server_time { "서버 시각 {time} (한국 시간)" "Server time {time} KST" }
    as_of { "{time} 기준" "As of {time} KST" }
    under_a_minute { "1분 미만" "less than a minute" }
    days_short { "일" "d" }

    // badges
    badge_scheduled { "오픈 예정" "Upcoming" }
    badge_live { "LIVE" "LIVE" }
    badge_all_held { "모두 결제 중" "All in checkout" }
    badge_sold_out { "품절" "Sold out" }
    badge_ended { "종료" "Ended" }

    // list of deals
    deals_title { "타임딜" "Time deals" }
    deals_lead { "준비된 수량이 모두 판매되면 끝납니다. 도착한 순서대로 입장합니다." "A deal ends when its units are sold. Everyone enters in order of arrival." }
    deals_empty { "지금은 딜이 없습니다." "There are no deals right now." }
    deals_empty_help { "새 딜이 열리면 이 페이지에 나타납니다." "New deals appear on this page." }
    deals_more { "딜 더 보기" "More deals" }
    back_to_deals { "딜 목록으로" "All deals" }
    price_label { "가격" "Price" }
    price_note { "배송비 포함 총액" "in total, nothing is added" }
    claimed { "{percent}% 판매·결제 중" "{percent}% sold or in checkout" }
    claimed_label { "판매되었거나 결제 중인 수량" "Units sold or in checkout" }
    units_left { "{left}개 남음" "{left} left" }
    units_total { "총 {total}개" "{total} units" }
    opens_at { "{time} 오픈" "Opens {time}" }
    ends_at { "{time} 종료" "Ends {time}" }
    ended_at { "{time} 종료됨" "Ended {time}" }

    // one deal
    facts_title { "판매 정보" "Facts" }
    fact_stock { "남은 수량" "Units left" }
    fact_stock_value { "{total}개 중 {left}개" "{left} of {total}" }
    fact_limit { "1인당 한도" "Limit per person" }
    fact_limit_value { "{limit}개" "{limit}" }
    fact_start { "시작" "Start" }
    fact_end { "종료" "End" }
    fact_queue { "입장 순서" "Order of entry" }
    fact_queue_value { "도착한 순서대로 입장합니다. 새치기는 없으며, 새로고침해도 순번은 유지됩니다." "Order of arrival. Nobody can skip, and a refresh keeps your place." }
    fact_refund { "환불" "Refunds" }
    fact_refund_value { "결제 완료 후 주문 페이지에서 전액 환불을 신청할 수 있습니다." "After payment you can ask for a full refund on the order page." }
    buy { "구매하기" "Buy" }
    buy_note { "사람이 많으면 대기실을 거쳐 입장합니다." "If it is busy, you enter through the waiting room." }
    enter_lobby { "대기실로 가기" "Go to the waiting room" }
    starts_in { "시작까지" "Starts in" }
    ends_in { "종료까지" "Ends in" }
    held_note { "준비된 수량이 모두 결제 중입니다. 취소분이 나오면 줄을 선 순서대로 구매할 수 있습니다." "All units are in checkout. Units that return are offered in order of the line." }
    wait_for_units { "취소분 기다리기" "Wait for returned units" }
    sold_out_note { "준비된 수량이 모두 판매되었습니다." "All units are sold." }
    ended_note { "이 딜은 종료되었습니다." "This deal has ended." }
    other_deals { "다른 딜 보기" "See other deals" }

    // checkout
    checkout_title { "주문하기" "Checkout" }
    checkout_signin { "주문하려면 로그인해 주세요. 입장은 유지됩니다." "Sign in to order. You stay inside meanwhile." }
    item { "상품" "Item" }
    quantity { "수량" "Quantity" }
    quantity_help { "1인당 {limit}개까지. 각 수량 옆의 금액이 총액입니다." "Up to {limit} per person. The amount beside each quantity is the total." }
    quantity_option { "{n}개 · {total}" "{n} · {total}" }
    total { "결제할 금액" "Total to pay" }
    order_button { "주문하고 수량 확보하기" "Order and hold the units" }
    order_note { "주문하면 수량이 확보되고 결제할 수 있는 시간이 표시됩니다. 아직 결제되지 않습니다." "Ordering holds the units and shows how long you can pay. You are not charged yet." }

    // orders
    orders_title { "내 주문" "My orders" }
    orders_empty { "아직 주문이 없습니다." "You have no orders yet." }
    orders_more { "이전 주문 보기" "Older orders" }
    order_title { "주문" "Order" }
    order_number { "주문 번호" "Order number" }
    ordered_at { "주문 시각" "Ordered" }
    order_facts { "주문 내용" "Order details" }
    amount_total { "총액" "Total" }
    hold_left { "결제까지 남은 시간" "Time left to pay" }
    hold_until { "{time}까지 결제해 주세요 (남은 시간 {left})." "Please pay until {time} ({left} left)." }
    say_60 { "결제 시간이 1분 남았습니다." "One minute left to pay." }
    say_30 { "결제 시간이 30초 남았습니다." "30 seconds left to pay." }
    pay_kakaopay { "카카오페이로 결제하기" "Pay with KakaoPay" }
    pay_toss { "토스페이먼츠로 결제하기" "Pay with Toss Payments" }
    pay_stripe { "해외 카드로 결제하기" "Pay by card (Stripe)" }
    continue_payment { "카카오페이에서 계속하기" "Continue at KakaoPay" }
    cancel_order { "주문 취소" "Cancel the order" }
    refund { "환불 신청" "Ask for a refund" }
    refund_units { "환불 수량" "Units to give back" }
    refund_all { "전체 {units}개" "All {units}" }
    refund_some { "{units}개 ({amount})" "{units} ({amount})" }
    refund_reason { "환불 사유 (선택)" "Reason (optional)" }
    buy_again { "이 딜 다시 보기" "Back to the deal" }
    auto_refresh { "이 페이지는 10초마다 새로고침됩니다." "This page refreshes itself every 10 seconds." }
    refresh_now { "지금 새로고침" "Refresh now" }
    refresh_stop { "자동 새로고침 멈추기" "Stop refreshing" }
    offline { "연결이 끊겼습니다. 다시 연결하고 있습니다." "Connection lost. Trying again." }

    state_held { "결제 대기" "Waiting for payment" }
    note_held { "수량이 확보되었습니다. 시간 안에 결제해 주세요." "Your units are held. Please pay in time." }
    state_preparing { "결제 준비 중" "Preparing the payment" }
    note_preparing { "카카오페이에 결제를 요청하고 있습니다." "We are asking KakaoPay for the payment page." }
    state_at_provider { "결제 진행 중" "Payment in progress" }
    note_at_provider { "카카오페이에서 결제를 마쳐 주세요." "Please finish the payment at KakaoPay." }
    state_confirming { "결제 확인 중" "Confirming the payment" }
    note_confirming { "결제 결과를 확인하고 있습니다. 이 페이지를 닫아도 됩니다." "We are confirming the result. You may close this page." }
    note_unknown { "결제사의 답을 기다리고 있습니다. 그동안 수량은 확보되어 있고, 두 번 결제되지 않습니다." "We are waiting for the provider's answer. Your units stay held and you cannot be charged twice." }
    state_paid { "결제 완료" "Paid" }
    note_paid { "결제가 완료되었습니다. 감사합니다." "Your payment is complete. Thank you." }
    state_cancelled { "취소됨" "Cancelled" }
    note_cancelled { "주문을 취소했습니다. 결제된 금액은 없습니다." "The order was cancelled. Nothing was charged." }
    state_expired { "시간 만료" "Expired" }
    note_expired { "결제 시간이 지나 수량이 돌아갔습니다. 결제된 금액은 없습니다." "The time to pay ran out and the units went back. Nothing was charged." }
    state_declined { "결제 실패" "Payment declined" }
    note_declined { "결제가 승인되지 않았습니다. 결제된 금액은 없습니다." "The payment was declined. Nothing was charged." }
    note_payment_cancelled { "결제를 취소해 주문도 취소되었습니다. 결제된 금액은 없습니다." "You cancelled the payment, so the order was cancelled. Nothing was charged." }
    state_refunding { "환불 중" "Refund in progress" }
    note_refunding { "환불을 처리하고 있습니다." "We are processing your refund." }
    state_partly_refunded { "일부 환불" "Partly refunded" }
    note_partly_refunded { "결제한 금액의 일부를 돌려드렸습니다." "A part of the amount was returned." }
    state_quarantined { "확인이 필요한 주문" "Being checked" }
    note_quarantined { "결제 내역과 주문이 맞지 않아 담당자가 확인하고 있습니다. 상품과 결제 금액은 그대로 보관됩니다." "Payment and order do not agree, and a person is looking at it. Your goods and your money are kept safe meanwhile." }
    state_refunded { "환불 완료" "Refunded" }
    note_late_money { "주문이 끝난 뒤에 결제가 도착했습니다. 결제한 금액은 자동으로 전액 환불됩니다." "Your payment arrived after the order had ended. The full amount goes back by itself." }
    note_refunded { "결제한 금액을 모두 돌려드렸습니다." "The full amount was returned." }
    provider_says { "결제사 안내: {message}" "The provider says: {message}" }

    // accounts
    login_title { "로그인" "Sign in" }
    signup_title { "회원가입" "Sign up" }
    email { "이메일" "E-mail" }
    password { "비밀번호" "Password" }
    password_new_help { "8~64자, 글자와 숫자와 기호를 하나 이상" "8 to 64 characters with a letter, a digit and another character" }
    name { "이름" "Name" }
    login_button { "로그인" "Sign in" }
    signup_button { "가입하고 로그인" "Sign up and sign in" }
    no_account { "계정이 없으신가요?" "No account yet?" }
    have_account { "이미 계정이 있으신가요?" "Have an account?" }
    error_email { "이메일 주소를 name@example.com 형식으로 입력해 주세요." "Enter an e-mail address like name@example.com." }
    error_email_taken { "이미 가입된 이메일입니다. 로그인해 주세요." "An account with this e-mail exists. Please sign in." }
    error_password { "비밀번호는 8~64자로, 글자와 숫자와 기호를 하나 이상 넣어 주세요." "Use 8 to 64 characters with a letter, a digit and another character." }
    error_name { "이름을 1~80자로 입력해 주세요." "Enter a name of 1 to 80 characters." }
    error_quantity { "표시된 수량 가운데 하나를 골라 주세요." "Choose one of the quantities shown." }
    error_credentials { "이메일 또는 비밀번호가 맞지 않습니다." "E-mail or password is wrong." }

    // problems
    problem_address { "문제 유형" "Problem type" }
    problem_status { "HTTP 상태 코드" "HTTP status" }
    problem_incident { "문의하실 때 이 번호를 알려 주세요: {incident}" "If you ask us about it, quote {incident}." }
    problem_stale_form { "이 페이지가 열린 뒤 로그인 상태가 바뀌었거나 너무 오래되었습니다. 페이지를 다시 열고 한 번 더 눌러 주세요. 처리된 것은 없습니다." "You signed in or out after this page was opened, or it is too old. Open it again and press once more. Nothing was done." }
    go_back { "돌아가기" "Go back" }
}

/// Puts `values` into the `{places}` of a sentence, in one pass: a value that looks like a place stays as it is.
pub fn fill(sentence: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(sentence.len() + 16);
    let mut rest = sentence;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let place = after
            .split_once('}')
            .and_then(|(name, tail)| values.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value, tail)));
        match place {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn places(sentence: &str) -> BTreeSet<&str> {
        sentence.split('{').skip(1).filter_map(|s| s.split_once('}')).map(|(name, _)| name).collect()
    }

    #[test]
    fn both_languages_say_something_with_the_same_places() {
        for (key, ko, en) in ALL {
            assert!(!ko.trim().is_empty() && !en.trim().is_empty(), "{key} is empty");
            assert_eq!(places(ko), places(en), "{key} has different places");
        }
    }

    #[test]
    fn each_language_is_itself() {
        let hangul = |s: &str| s.chars().any(|c| ('가'..='힣').contains(&c));
        for (key, ko, en) in ALL {
            assert!(!hangul(en), "{key}: Korean in the English text");
            let neutral = ["badge_live", "quantity_option"].contains(key) || hangul(ko);
            assert!(neutral, "{key}: no Korean in the Korean text");
        }
    }

    #[test]
    fn values_are_never_filled_again() {
        assert_eq!(fill("{a}-{b}-{c}", &[("a", "{b}"), ("b", "2")]), "{b}-2-{c}");
        assert_eq!(fill("no places, one { brace", &[]), "no places, one { brace");
    }
}
