//! What each kind of problem means to a shopper: a title and a way out, in Korean and English.
//! A table over every [`Slug`]; a new kind does not compile until it is explained here.

use super::lang::Lang;
use service_kit::problem::Slug;

/// Title and explanation of a kind of problem.
pub fn problem_text(slug: Slug, lang: Lang) -> (&'static str, &'static str) {
    let (ko, en) = both(slug);
    match lang {
        Lang::Ko => ko,
        Lang::En => en,
    }
}

type Pair = (&'static str, &'static str);

fn both(slug: Slug) -> (Pair, Pair) {
    match slug {
        Slug::BadRequest => (
            (
                "요청을 읽을 수 없습니다",
                "입력한 내용이 온전히 도착하지 않았습니다. 페이지를 다시 열고 한 번 더 시도해 주세요.",
            ),
            ("The request could not be read", "What you sent did not arrive whole. Open the page again and retry."),
        ),
        Slug::BadPath => (
            ("주소 형식이 올바르지 않습니다", "주소에는 정해진 한 가지 표기만 쓸 수 있습니다. 링크를 확인해 주세요."),
            ("The address is not spelled correctly", "Each address has exactly one spelling. Please check the link."),
        ),
        Slug::BodyTooLarge => (
            ("보낸 내용이 너무 큽니다", "입력한 내용을 줄여 다시 보내 주세요."),
            ("Too much was sent", "Shorten what you entered and send it again."),
        ),
        Slug::InvalidField => (
            ("입력값이 올바르지 않습니다", "표시된 항목을 고쳐 다시 보내 주세요. 처리된 것은 없습니다."),
            ("A value is not allowed", "Correct the field and send it again. Nothing was done."),
        ),
        Slug::IdempotencyKeyMissing => (
            ("요청 키가 없습니다", "같은 요청이 두 번 처리되지 않도록 Idempotency-Key 헤더가 필요합니다."),
            ("The request needs a key", "Send an Idempotency-Key header, so that a repeated request has one effect."),
        ),
        Slug::IdempotencyKeyReused => (
            (
                "이미 사용한 요청입니다",
                "이 페이지로 다른 내용의 주문을 이미 보냈습니다. 내 주문을 확인하거나 다시 시도해 주세요.",
            ),
            ("This form was already used", "It was sent before with other values. Look at your orders, or try again."),
        ),
        Slug::IdempotencyKeyInFlight => (
            (
                "요청을 처리하고 있습니다",
                "앞서 보낸 요청이 아직 처리 중입니다. 잠시 후 다시 눌러도 한 번만 처리됩니다.",
            ),
            ("Your request is still running", "Press again in a moment: it will still have one effect."),
        ),
        Slug::NotSignedIn => {
            (("로그인이 필요합니다", "로그인한 뒤 다시 시도해 주세요."), ("Sign in first", "Sign in and try again."))
        }
        Slug::WrongCredentials => (
            ("로그인하지 못했습니다", "이메일 또는 비밀번호가 맞지 않습니다."),
            ("You were not signed in", "E-mail or password is wrong."),
        ),
        Slug::Forbidden => (
            ("이 작업을 할 수 없습니다", "권한이 없거나 이 페이지가 너무 오래되었습니다. 처리된 것은 없습니다."),
            ("You may not do this", "You lack the right to, or the page is too old. Nothing was done."),
        ),
        Slug::NotFound => (
            ("페이지를 찾을 수 없습니다", "주소가 바뀌었거나 없는 페이지입니다."),
            ("There is nothing here", "The address has changed or never existed."),
        ),
        Slug::MethodNotAllowed => (
            ("이 주소에서는 할 수 없는 요청입니다", "페이지를 주소로 직접 열지 말고 버튼을 눌러 주세요."),
            ("This is not possible here", "Use the button on the page instead of opening this address."),
        ),
        Slug::EmailTaken => (
            ("이미 가입된 이메일입니다", "로그인하거나 다른 이메일을 사용해 주세요."),
            ("An account with this e-mail exists", "Sign in, or use another e-mail."),
        ),
        Slug::DealNotOpen => (
            ("지금은 구매할 수 없는 딜입니다", "아직 시작하지 않았거나 이미 종료되었습니다. 결제된 금액은 없습니다."),
            ("The deal is not open now", "It has not started yet, or it has ended. Nothing was charged."),
        ),
        Slug::SoldOut => (
            (
                "남은 수량이 부족합니다",
                "선택한 수량만큼 남아 있지 않습니다. 취소분이 나올 수 있습니다. 결제된 금액은 없습니다.",
            ),
            ("Not enough units are left", "Fewer units are left than you chose. Some may return. Nothing was charged."),
        ),
        Slug::PerUserLimit => (
            (
                "1인당 한도를 넘었습니다",
                "진행 중인 주문과 구매한 수량을 합해 한도까지만 살 수 있습니다. 결제된 금액은 없습니다.",
            ),
            (
                "The limit per person is reached",
                "Units in your open and paid orders count towards it. Nothing was charged.",
            ),
        ),
        Slug::WrongState => (
            ("지금 상태에서는 할 수 없습니다", "그사이 상태가 바뀌었습니다. 현재 상태를 확인해 주세요."),
            ("This is no longer possible", "The state has changed meanwhile. Look at it again."),
        ),
        Slug::WaitInLine => (
            ("줄을 서 주세요", "지금은 사람이 많습니다. 대기실에서 도착한 순서대로 입장합니다."),
            ("Please wait in line", "It is busy. Everyone enters through the waiting room in order of arrival."),
        ),
        Slug::TicketInvalid => (
            ("입장권이 유효하지 않습니다", "입장 시간이 지났거나 다른 딜의 입장권입니다. 대기실로 다시 들어가 주세요."),
            (
                "Your pass is not valid here",
                "It has run out or belongs to another deal. Please enter the waiting room again.",
            ),
        ),
        Slug::NotYourTurn => (
            ("아직 차례가 아닙니다", "차례가 되면 대기 화면이 알려 드립니다. 순번은 유지됩니다."),
            ("It is not your turn yet", "The waiting page tells you when it is. Your place is kept."),
        ),
        Slug::TurnMissed => (
            ("차례를 놓쳤습니다", "대기실로 돌아가면 다시 안내해 드립니다."),
            ("Your turn was missed", "Go back to the waiting room: it tells you what is next."),
        ),
        Slug::RoomClosed => (
            ("대기실이 닫혔습니다", "이 딜의 대기실은 운영이 끝났습니다. 결제된 금액은 없습니다."),
            ("This waiting room is closed", "It lets nobody in any more. Nothing was charged."),
        ),
        Slug::InvitationRequired => (
            ("초대받은 분만 입장할 수 있습니다", "받은 초대 코드를 입력하면 번호를 드립니다."),
            ("This room is for invited people", "Enter the code of your invitation to get a number."),
        ),
        Slug::CodeInvalid => (
            ("코드가 맞지 않습니다", "이 대기실의 코드가 아닙니다. 받은 그대로 다시 입력해 주세요."),
            ("The code is not right", "It is not a code of this waiting room. Enter it just as you got it."),
        ),
        Slug::CodeUsed => (
            ("이미 사용한 코드입니다", "이 코드는 정해진 횟수만큼 모두 사용되었습니다. 코드를 준 곳에 문의해 주세요."),
            ("The code is used up", "It was used as often as it may be. Ask those who gave it to you."),
        ),
        Slug::ProofRequired => (
            ("잠시 확인이 필요합니다", "접속이 몰려 기기를 확인하고 있습니다. 페이지에서 열면 자동으로 진행됩니다."),
            ("A short check is needed", "Many requests arrive at once. Open the page: the check runs by itself."),
        ),
        Slug::PassOfAnotherBrowser => (
            (
                "다른 브라우저의 입장권입니다",
                "입장권은 받은 브라우저에서만 쓸 수 있습니다. 그 브라우저에서 계속해 주세요.",
            ),
            ("The pass belongs to another browser", "A pass works where it was given. Go on in that browser."),
        ),
        Slug::PassOfAnotherAccount => (
            (
                "다른 계정이 사용한 입장권입니다",
                "이 입장권으로 이미 다른 계정이 주문했습니다. 이 계정으로 줄을 서 주세요. 결제된 금액은 없습니다.",
            ),
            (
                "Another account has bought with this pass",
                "A pass serves one account. Take a place of your own in the line. Nothing was charged.",
            ),
        ),
        Slug::SignatureInvalid => (
            ("서명이 맞지 않습니다", "결제사의 알림만 받는 주소입니다. 아무것도 바뀌지 않았습니다."),
            ("The signature is not right", "Only payment providers send their notices here. Nothing was changed."),
        ),
        Slug::TooManyRequests => (
            ("요청이 너무 많습니다", "잠시 기다린 뒤 다시 시도해 주세요. 순번과 주문은 유지됩니다."),
            ("Too many requests", "Wait a moment and try again. Your place and your orders are kept."),
        ),
        Slug::StoreUnavailable => (
            (
                "잠시 연결이 원활하지 않습니다",
                "잠시 후 다시 시도해 주세요. 같은 버튼을 다시 눌러도 한 번만 처리됩니다.",
            ),
            (
                "We cannot reach our records just now",
                "Try again in a moment. Pressing the same button again has one effect.",
            ),
        ),
        Slug::UpstreamUnavailable => (
            ("상점이 잠시 응답하지 않습니다", "잠시 후 다시 시도해 주세요."),
            ("The shop does not answer just now", "Try again in a moment."),
        ),
        Slug::Internal => (
            (
                "문제가 발생했습니다",
                "저희 쪽 문제입니다. 잠시 후 다시 시도해 주세요. 같은 버튼을 다시 눌러도 한 번만 처리됩니다.",
            ),
            (
                "Something went wrong on our side",
                "Try again in a moment. Pressing the same button again has one effect.",
            ),
        ),
    }
}

/// The kind with this slug, as in `/problems/{slug}`.
pub fn slug_of(text: &str) -> Option<Slug> {
    Slug::ALL.iter().copied().find(|s| s.facts().1 == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_explained_in_both_languages() {
        let hangul = |s: &str| s.chars().any(|c| ('가'..='힣').contains(&c));
        for slug in Slug::ALL {
            let (ko, en) = both(*slug);
            assert!(hangul(ko.0) && hangul(ko.1) && !hangul(en.0) && !hangul(en.1), "{slug:?}");
            assert_eq!(slug_of(slug.facts().1), Some(*slug));
        }
        assert_eq!(slug_of("no-such"), None);
    }
}
