//! The parts of the provider's answers that are read. Further fields are ignored: the provider may add some.

use serde::Deserialize;

/// Answer of `/ready`.
#[derive(Debug, Deserialize)]
pub(super) struct ReadyBody {
    pub(super) tid: String,
    pub(super) next_redirect_app_url: String,
    pub(super) next_redirect_mobile_url: String,
    pub(super) next_redirect_pc_url: String,
}

/// A sum; its parts are the provider's business.
#[derive(Debug, Deserialize)]
pub(super) struct AmountBody {
    pub(super) total: i64,
}

/// Answer of `/approve`.
#[derive(Debug, Deserialize)]
pub(super) struct ApproveBody {
    pub(super) aid: String,
    pub(super) tid: String,
    pub(super) partner_order_id: String,
    pub(super) amount: AmountBody,
}

/// Answer of `/cancel`.
#[derive(Debug, Deserialize)]
pub(super) struct CancelBody {
    pub(super) aid: String,
    pub(super) tid: String,
    pub(super) approved_cancel_amount: AmountBody,
    pub(super) canceled_amount: AmountBody,
}

/// Answer of `/order`.
#[derive(Debug, Deserialize)]
pub(super) struct OrderBody {
    pub(super) tid: Option<String>,
    pub(super) partner_order_id: Option<String>,
    pub(super) status: String,
    pub(super) amount: AmountBody,
    pub(super) canceled_amount: AmountBody,
    #[serde(default)]
    pub(super) payment_action_details: Vec<ActionBody>,
}

impl OrderBody {
    /// The actions of one type, oldest first.
    pub(super) fn actions<'b>(&'b self, kind: &'b str) -> impl DoubleEndedIterator<Item = &'b ActionBody> {
        self.payment_action_details.iter().filter(move |action| action.payment_action_type == kind)
    }
}

/// Money that moved.
#[derive(Debug, Deserialize)]
pub(super) struct ActionBody {
    pub(super) aid: String,
    pub(super) payment_action_type: String,
    pub(super) payload: Option<String>,
}
