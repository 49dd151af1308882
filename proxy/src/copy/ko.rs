//! The waiting page in Korean.

use super::{Copy, Say};

/// Korean.
pub const KO: Copy = Copy {
    scheduled: Say {
        heading: "곧 대기실이 열립니다", text: "대기실이 열리면 이 페이지에서 자동으로 순번을 받습니다."
    },
    lobby: Say {
        heading: "시작을 기다리고 있습니다",
        text: "순번을 받았습니다. 시작 시각이 되면 순번대로 입장합니다.",
    },
    lobby_draw: Say {
        heading: "추첨을 기다리고 있습니다",
        text: "시작 시각에, 그때까지 오신 모든 분의 순서를 추첨합니다. 먼저 왔다고 유리하지 않습니다.",
    },
    waiting: Say { heading: "대기 중입니다", text: "접속이 몰려 순서대로 입장하고 있습니다." },
    called: Say { heading: "입장하실 차례입니다", text: "아래 버튼을 누르면 바로 입장합니다." },
    inside: Say { heading: "입장하셨습니다", text: "아래 버튼을 누르면 이어서 진행합니다." },
    missed: Say {
        heading: "차례가 지나갔습니다",
        text: "정해진 시간 안에 입장하지 않았거나 이용 시간이 끝났습니다. 다시 줄을 설 수 있습니다.",
    },
    paused: Say {
        heading: "입장이 잠시 멈췄습니다",
        text: "운영자가 잠시 멈췄습니다. 순번은 유지되며, 다시 시작되면 자동으로 이어집니다.",
    },
    hold: Say {
        heading: "순번을 확인하고 있습니다",
        text: "기록을 확인하는 동안 입장을 멈췄습니다. 이 페이지를 열어 두면 순번은 유지됩니다.",
    },
    standby: Say {
        heading: "모든 수량이 결제 중입니다",
        text: "취소분이 나올 수 있습니다. 나오면 순번대로 바로 입장합니다.",
    },
    sold_out: Say {
        heading: "모두 판매되었습니다",
        text: "준비된 수량이 모두 판매되었습니다. 결제된 금액은 없습니다.",
    },
    closed: Say {
        heading: "대기실이 닫혔습니다", text: "이 판매는 끝났습니다. 결제된 금액은 없습니다."
    },
    degraded: Say {
        heading: "잠시 연결을 확인하고 있습니다",
        text: "저장소와의 연결이 끊겨 입장이 잠시 멈췄습니다. 순번은 유지되며, 연결되면 자동으로 이어집니다.",
    },
    left: Say {
        heading: "줄에서 나왔습니다", text: "순번을 반납했습니다. 다시 줄을 서면 새 순번을 받습니다."
    },
    busy: Say {
        heading: "잠시만 기다려 주세요",
        text: "같은 네트워크에서 요청이 너무 많습니다. 받은 순번은 유지됩니다. 몇 초 뒤에 다시 시도해 주세요.",
    },
    upstream_away: Say {
        heading: "상점이 응답하지 않습니다",
        text: "잠시 후 다시 시도해 주세요. 입장 자격은 그대로 유지됩니다.",
    },
    check: Say {
        heading: "추첨 확인하기",
        text: "이 페이지는 공개된 추첨 기록만으로, 이 브라우저에서 순번을 다시 계산합니다. 서버의 말을 믿을 필요가 없습니다.",
    },
    ahead: "내 앞 대기 인원",
    behind: "내 뒤 대기 인원",
    eta: "예상 대기 시간",
    eta_unknown: "계산 중",
    eta_under_a_minute: "1분 이내",
    eta_up_to: "최대 {n}분",
    eta_range: "{a}~{b}분",
    eta_hours: "약 {n}시간",
    progress: "현재 줄에서의 위치",
    starts_in: "시작까지",
    enter_within: "입장 마감까지",
    seconds_left: "{n}초 남았습니다",
    updated: "마지막 확인",
    number: "대기 번호",
    place: "추첨된 순서",
    safe: "새로고침하거나 화면을 꺼도, 나갔다 다시 와도 순번은 유지됩니다.",
    requeue: "이 판매에서는 새로고침하면 새 순번을 받습니다. 이 페이지를 그대로 열어 두세요.",
    fair: "도착한 순서대로 입장합니다. 새치기는 없습니다.",
    fair_draw: "시작 전에 온 분들은 추첨 순서대로, 그 뒤에 온 분들은 도착한 순서대로 입장합니다.",
    have_code: "코드가 있습니다",
    demoted: "이 네트워크에서 요청이 매우 많이 들어와 순번이 뒤쪽으로 배정되었습니다. 자동 프로그램이 아니라면 대기 번호를 적어 상점에 알려 주세요. 확인 후 바로잡아 드립니다.",
    chance_plenty: "수량이 넉넉합니다.",
    chance_low: "수량이 얼마 남지 않았습니다.",
    chance_unlikely: "차례 전에 모두 판매될 것 같습니다.",
    entrants: "지금까지 온 사람",
    commitment: "추첨 약속 값",
    check_link: "추첨 확인하기",
    why_question: "왜 기다리나요?",
    why_answer: "한꺼번에 들어오면 결제가 실패할 수 있어, 나누어 모십니다. 차례를 한 번 놓쳐도 다시 오시면 먼저 불러 드립니다.",
    notice: "안내",
    enter: "입장하기",
    join_again: "다시 줄 서기",
    refresh_now: "지금 새로고침",
    refresh_stop: "자동 새로고침 끄기",
    refresh_start: "자동 새로고침 켜기",
    refresh_on: "이 페이지는 20초마다 자동으로 새로고침됩니다.",
    tell: "차례가 되면 소리와 진동으로 알리기",
    mail_label: "차례가 가까워지면 알림을 받을 이메일",
    mail_do: "알림 받기",
    mail_on: "차례가 가까워지면 이메일로 알려 드립니다.",
    leave: "줄에서 나가기",
    leave_sure: "나가면 지금 순번은 사라집니다.",
    leave_do: "순번을 버리고 나가기",
    back: "처음으로",
    offline: "연결이 끊겼습니다. 순번은 유지되며 다시 연결하고 있습니다.",
    shop_says: "상점에서 알립니다",
    check_number: "대기 번호",
    check_do: "다시 계산하기",
    check_not_yet: "아직 추첨하지 않았습니다. 시작 시각이 지난 뒤에 확인할 수 있습니다.",
    check_good: "확인되었습니다. 번호 {n}의 추첨 순서는 {p}번째입니다. (전체 {c}명)",
    check_bad: "기록이 서로 맞지 않습니다. 이 페이지를 저장해 상점에 알려 주세요.",
    check_outside: "이 번호는 추첨에 들어 있지 않습니다. 시작 뒤에 온 분은 도착한 순서대로 이어집니다.",
    check_cannot: "이 브라우저에서는 계산할 수 없습니다. 아래 명령으로 확인하세요.",
    back_to_line: "대기실로 돌아가기",
    check_command: "명령으로 확인하기",
    check_record: "공개된 기록",
    check_own_record: "참가자 목록에 있는 내 기록",
    check_nonce: "내가 보탠 값",
    check_lost: "비어 있습니다. 시작 전에 저장소가 기록을 잃었고, 다시 알릴 페이지가 열려 있지 않았습니다. 순서는 그대로 추첨되었습니다.",
};
