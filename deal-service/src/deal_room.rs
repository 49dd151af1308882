//! The waiting room of a deal, as its merchant wants it: the object `room` of a new deal.
//!
//! What is not said is as the service's configuration has it. Not a merchant's to say is what concerns the whole site:
//! which requests pass without waiting, paths, a beacon from a file, what counts as a slow upstream.

use crate::config::Config;
use ledger::{Deal, NewDeal};
use queue::lane::Lane;
use queue::notice::Notice;
use queue::settings::{AfterStoreLoss, Beacon, CopiedPass, Mode, OnePlacePer, ProofOfWork, Refresh, RoomSettings};
use queue::theme::Theme;
use serde::{Deserialize, Serialize};
use service_kit::ids::{DealId, RoomId};
use service_kit::problem::Problem;

macro_rules! wishes {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        /// A merchant's wishes; see the module. Every field is explained at [`RoomSettings`].
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct DealRoom {
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
            /// A message above the line: one text, or one per language.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub notice: Option<Notice>,
            /// A paid order ends the pass, not only the place inside: the next one needs a new turn.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub end_on_purchase: bool,
        }

        impl DealRoom {
            /// The room with everything that was wished.
            fn over(&self, room: RoomSettings) -> RoomSettings {
                RoomSettings {
                    $($name: self.$name.clone().unwrap_or(room.$name),)*
                    notice: self.notice.clone().or(room.notice),
                    ..room
                }
            }
        }
    };
}

wishes! {
    /// `fifo` or `draw`.
    mode: Mode;
    /// What the draw's randomness comes from: `off` or `entrants`.
    beacon: Beacon;
    /// When the lobby opens; with the deal when left out.
    lobby_opens_at_ms: i64;
    /// How long a call waits to be claimed.
    claim_window_ms: u32;
    /// How long a pass lasts without activity.
    lease_ms: u32;
    /// How long a pass lasts at most.
    lease_max_ms: u32;
    /// Silent for longer means skipped when called.
    silence_ms: u32;
    /// People per hundred free units that may look at them at once.
    overbooking_percent: u32;
    /// The most that a measured conversion may raise that to.
    overbooking_percent_max: u32;
    /// Calls per hundred wanted entries at most.
    no_show_percent_max: u32;
    /// What a reload does.
    refresh: Refresh;
    /// Who has one place.
    one_place_per: OnePlacePer;
    /// A pass in another browser than its own.
    copied_pass: CopiedPass;
    /// When newcomers must prove work.
    proof_of_work: ProofOfWork;
    /// How much work.
    proof_bits: u8;
    /// Joins per second and gate above which the room is under attack.
    attack_joins_per_s: u32;
    /// Lanes beside the main one, with their codes.
    lanes: Vec<Lane>;
    /// Only people with a code or an invitation get a number.
    invite_only: bool;
    /// How the room goes on after its store could not be trusted.
    after_store_loss: AfterStoreLoss;
    /// What the waiting page looks like.
    theme: Theme;
}

/// What a room takes from its deal.
struct Facts<'d> {
    deal: DealId,
    title: &'d str,
    made_at_ms: i64,
    starts_at_ms: i64,
    ends_at_ms: i64,
    rate_per_s: i64,
    inside_max: i64,
}

impl DealRoom {
    /// As a deal keeps it.
    ///
    /// # Errors
    /// When a later release wrote what this one does not know.
    pub fn of(deal: &Deal) -> Result<Self, serde_json::Error> {
        serde_json::from_value(deal.room.clone())
    }

    /// Checks the wishes by the room's own rules.
    ///
    /// # Errors
    /// An `invalid-field` problem that names the first field which breaks one.
    pub fn check(&self, new: &NewDeal, now_ms: i64, config: &Config) -> Result<(), Problem> {
        // Its signer is the gate's, and a draw would wait for ever where there is none.
        if self.beacon == Some(Beacon::File) {
            return Err(Problem::field("room.beacon", "`off` or `entrants`: a signed file belongs to the site"));
        }
        let facts = Facts {
            deal: new.id,
            title: &new.title,
            made_at_ms: now_ms,
            starts_at_ms: new.starts_at_ms,
            ends_at_ms: new.ends_at_ms,
            rate_per_s: new.admission_rate_per_s,
            inside_max: new.admission_cap,
        };
        self.over(with_facts(fresh(&facts, config), &facts)).validate().map_err(|e| {
            // "`lanes[0].name`: a rule" → the same below `room`.
            let (field, rule) =
                e.0.strip_prefix('`').and_then(|rest| rest.split_once("`: ")).unwrap_or(("settings", e.0.as_str()));
            Problem::field(&format!("room.{field}"), rule)
        })
    }
}

/// The room of a deal; `present` is what is published about it. Only what the deal and its merchant say is written again.
///
/// # Errors
/// As [`DealRoom::of`].
pub fn room_of(
    deal: &Deal,
    present: Option<&RoomSettings>,
    config: &Config,
) -> Result<RoomSettings, serde_json::Error> {
    let facts = Facts {
        deal: deal.id,
        title: &deal.title,
        made_at_ms: deal.created_at_ms,
        starts_at_ms: deal.starts_at_ms,
        ends_at_ms: deal.ends_at_ms,
        rate_per_s: deal.admission_rate_per_s,
        inside_max: deal.admission_cap,
    };
    let room = present.cloned().unwrap_or_else(|| fresh(&facts, config));
    Ok(DealRoom::of(deal)?.over(with_facts(room, &facts)))
}

/// A new room by the service's configuration.
fn fresh(facts: &Facts<'_>, config: &Config) -> RoomSettings {
    let small = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    RoomSettings {
        claim_window_ms: config.claim_window_ms,
        lease_ms: config.lease_ms,
        lease_max_ms: config.lease_ms.max(RoomSettings::LEASE_MAX_MS),
        stock_aware: true,
        overbooking_percent: config.overbooking_percent,
        overbooking_percent_max: config.overbooking_percent.max(RoomSettings::OVERBOOKING_PERCENT_MAX),
        ..RoomSettings::new(
            RoomId::of_deal(facts.deal),
            facts.title.to_owned(),
            small(facts.rate_per_s),
            small(facts.inside_max),
        )
    }
}

/// The room with what its deal says.
fn with_facts(room: RoomSettings, facts: &Facts<'_>) -> RoomSettings {
    RoomSettings {
        title: facts.title.to_owned(),
        lobby_opens_at_ms: facts.made_at_ms.min(facts.starts_at_ms),
        starts_at_ms: facts.starts_at_ms,
        ends_at_ms: facts.ends_at_ms,
        enter_path: format!("/deals/{}/buy", facts.deal),
        ..room
    }
}
