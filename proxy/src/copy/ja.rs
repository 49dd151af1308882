//! The waiting page in Japanese.

use super::{Copy, Say};

/// Japanese.
pub const JA: Copy = Copy {
    scheduled: Say {
        heading: "まもなく待合室が開きます", text: "開くと、このページで自動的に番号を受け取ります。"
    },
    lobby: Say {
        heading: "開始を待っています", text: "番号を受け取りました。開始時刻になると、番号順に入場します。"
    },
    lobby_draw: Say {
        heading: "抽選を待っています",
        text: "開始時刻に、それまでに来た全員の順番を抽選します。早く来ても有利にはなりません。",
    },
    waiting: Say {
        heading: "順番待ちです", text: "アクセスが集中しているため、順番に入場しています。"
    },
    called: Say { heading: "順番が来ました", text: "下のボタンを押すと入場します。" },
    inside: Say { heading: "入場しました", text: "下のボタンを押すと続けられます。" },
    missed: Say {
        heading: "順番が過ぎました",
        text: "時間内に入場しなかったか、利用時間が終わりました。もう一度並ぶことができます。",
    },
    paused: Say {
        heading: "入場を一時停止しています",
        text: "お店が入場を一時停止しました。順番は保たれ、再開すると自動的に進みます。",
    },
    hold: Say {
        heading: "順番を確認しています",
        text: "記録を確認する間、入場を停止しています。このページを開いたままにすれば、順番は保たれます。",
    },
    standby: Say {
        heading: "すべての商品が決済中です",
        text: "キャンセル分が出ることがあります。出た場合は、順番にすぐ入場できます。",
    },
    sold_out: Say {
        heading: "完売しました", text: "すべての商品が販売されました。お支払いは発生していません。"
    },
    closed: Say {
        heading: "待合室は閉じました", text: "この販売は終了しました。お支払いは発生していません。"
    },
    degraded: Say {
        heading: "接続を確認しています",
        text: "記録との接続が切れたため、入場を停止しています。順番は保たれ、つながると自動的に進みます。",
    },
    left: Say {
        heading: "列を離れました", text: "番号を返しました。もう一度並ぶと、新しい番号になります。"
    },
    busy: Say {
        heading: "少しお待ちください",
        text: "同じネットワークからのリクエストが多すぎます。受け取った順番は保たれます。数秒後にもう一度お試しください。",
    },
    upstream_away: Say {
        heading: "お店が応答していません",
        text: "しばらくしてからもう一度お試しください。入場の権利は保たれます。",
    },
    check: Say {
        heading: "抽選を確かめる",
        text: "このページは、公開された抽選の記録だけを使い、このブラウザで順番を計算し直します。サーバーを信じる必要はありません。",
    },
    ahead: "前にいる人数",
    behind: "後ろにいる人数",
    eta: "待ち時間の目安",
    eta_unknown: "計算中",
    eta_under_a_minute: "1分以内",
    eta_up_to: "最大{n}分",
    eta_range: "{a}~{b}分",
    eta_hours: "約{n}時間",
    progress: "列の中の位置",
    starts_in: "開始まで",
    enter_within: "入場の締め切りまで",
    seconds_left: "残り{n}秒",
    updated: "最終確認",
    number: "あなたの番号",
    place: "抽選された順番",
    safe: "更新しても、画面を消しても、戻ってきても順番は保たれます。",
    requeue: "この販売では、再読み込みすると最後尾の新しい番号になります。このページを開いたままにしてください。",
    fair: "到着した順に入場します。割り込みはできません。",
    fair_draw: "開始前に来た人は抽選の順に、その後に来た人は到着順に入場します。",
    have_code: "コードをお持ちの方",
    demoted: "このネットワークからのリクエストが非常に多いため、順番が後方になっています。プログラムによるものでない場合は、番号をお店にお知らせください。確認のうえ修正します。",
    chance_plenty: "数量は十分にあります。",
    chance_low: "残りわずかです。",
    chance_unlikely: "順番の前に完売しそうです。",
    entrants: "これまでに来た人数",
    commitment: "抽選の約束値",
    check_link: "抽選を確かめる",
    why_question: "なぜ待つのですか?",
    why_answer: "一度に入ると決済に失敗することがあるため、分けてご案内します。一度順番を逃しても、戻れば最初にお呼びします。",
    notice: "お知らせ",
    enter: "入場する",
    join_again: "もう一度並ぶ",
    refresh_now: "今すぐ更新",
    refresh_stop: "自動更新を止める",
    refresh_start: "自動更新を始める",
    refresh_on: "このページは20秒ごとに自動更新されます。",
    tell: "順番が来たら音と振動で知らせる",
    mail_label: "順番が近づいたら知らせるメールアドレス",
    mail_do: "知らせを受け取る",
    mail_on: "順番が近づいたら、メールでお知らせします。",
    leave: "列を離れる",
    leave_sure: "離れると、今の番号はなくなります。",
    leave_do: "番号を捨てて離れる",
    back: "最初のページへ",
    offline: "接続が切れました。順番は保たれています。再接続しています。",
    shop_says: "お店からのお知らせ",
    check_number: "あなたの番号",
    check_do: "計算し直す",
    check_not_yet: "まだ抽選していません。開始時刻の後に確かめられます。",
    check_good: "正しい抽選です。番号{n}は{c}人中{p}番目です。",
    check_bad: "記録が一致しません。このページを保存して、お店にお知らせください。",
    check_outside: "この番号は抽選に含まれていません。開始後に来た人は到着順に続きます。",
    check_cannot: "このブラウザでは計算できません。下のコマンドで確かめてください。",
    back_to_line: "待合室に戻る",
    check_command: "コマンドで確かめる",
    check_record: "公開された記録",
    check_own_record: "参加者の一覧にあるあなたの記録",
    check_nonce: "あなたが加えた値",
    check_lost: "空です。開始前に記録が失われ、知らせ直すページが開いていませんでした。順番は同じように抽選されています。",
};
