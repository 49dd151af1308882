//! The gate's cookies: one ticket and one pass per room, and the language.

use service_kit::ids::RoomId;

/// How long a browser keeps the key of its entry, in seconds: tries and lost answers, not another day's draw.
pub const ENTRY_MAX_AGE_S: u64 = 3_600;
/// How long a browser keeps a ticket, in seconds: a sale and the night before it.
pub const TICKET_MAX_AGE_S: u64 = 2 * 86_400;
/// How the names of the gate's own cookies begin: no upstream sees them.
pub const OWN_PREFIXES: [&str; 3] = ["fg_t_", "fg_p_", "fg_e_"];
/// Name of the language cookie; the storefront uses the same.
pub const LANG: &str = "fg_lang";

/// Cookie names of a room.
#[derive(Debug, Clone)]
pub struct Names {
    /// The ticket.
    pub ticket: String,
    /// The pass.
    pub pass: String,
    /// What makes one join of a browser's tries, where people are asked for something before a draw.
    pub entry: String,
}

impl Names {
    /// The names for `room`; a room id has only characters that a cookie name may have.
    pub fn of(room: &RoomId) -> Self {
        Self { ticket: format!("fg_t_{room}"), pass: format!("fg_p_{room}"), entry: format!("fg_e_{room}") }
    }
}

/// A `Set-Cookie` value that scripts cannot read and other sites cannot send along a POST.
pub fn set(name: &str, value: &str, max_age_s: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Lax{secure}")
}

/// A `Set-Cookie` value that takes the cookie away.
pub fn clear(name: &str, secure: bool) -> String {
    set(name, "", 0, secure)
}
