//! Where a shopper goes after signing in. The value comes from a form, so it is parsed into one of
//! our own pages and printed again from that: a foreign address cannot be expressed (no open redirect).

use service_kit::ids::{DealId, OrderId};
use std::fmt;

/// A page of ours that signing in may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Next {
    /// The list of deals.
    #[default]
    Deals,
    /// One deal.
    Deal(DealId),
    /// The checkout of a deal, behind its waiting room.
    Buy(DealId),
    /// The shopper's orders.
    Orders,
    /// One order.
    Order(OrderId),
}

impl Next {
    /// The page with exactly this path; anything else is the list of deals.
    pub fn parse(path: &str) -> Self {
        Self::exact(path).unwrap_or_default()
    }
    fn exact(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let page = match (parts.next()?, parts.next(), parts.next()) {
            ("deals", None, None) => Self::Deals,
            ("deals", Some(id), None) => Self::Deal(id.parse().ok()?),
            ("deals", Some(id), Some("buy")) => Self::Buy(id.parse().ok()?),
            ("orders", None, None) => Self::Orders,
            ("orders", Some(id), None) => Self::Order(id.parse().ok()?),
            _ => return None,
        };
        if parts.next().is_none() { Some(page) } else { None }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deals => f.write_str("/deals"),
            Self::Deal(id) => write!(f, "/deals/{id}"),
            Self::Buy(id) => write!(f, "/deals/{id}/buy"),
            Self::Orders => f.write_str("/orders"),
            Self::Order(id) => write!(f, "/orders/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_pages_survive_the_round_trip() {
        let (deal, order) = (DealId::new(), OrderId::new());
        for page in [Next::Deals, Next::Deal(deal), Next::Buy(deal), Next::Orders, Next::Order(order)] {
            assert_eq!(Next::parse(&page.to_string()), page);
        }
    }

    #[test]
    fn nothing_else_is_followed() {
        let id = DealId::new();
        for evil in [
            "",
            "/",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/deals",
            "https:evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            " /deals",
            "/deals ",
            "/deals/",
            "/deals//buy",
            "/deals?x=//evil",
            "/deals#x",
            "/deals/../../evil",
            "/deals/%2e%2e",
            "/deals\r\nLocation: https://evil.example",
            "/logout",
            "/orders/not-an-id",
            "/@evil.example",
            "/deals@evil.example",
            "/．．/deals",
            &format!("/deals/{id}/buy/"),
            &format!("/deals/{id}/buy/x"),
            &format!("/deals/{id}%00"),
            &format!("/deals/{}", id.to_string().to_uppercase()),
            &format!("//deals/{id}"),
        ] {
            assert_eq!(Next::parse(evil).to_string(), "/deals", "{evil:?} must not be followed");
        }
    }
}
