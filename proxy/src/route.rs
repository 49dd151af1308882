//! The route table: a canonical path becomes an upstream and, where a room stands in front, the room.
//! The most specific route wins; a path that no route names is refused (default deny).

use crate::canonical::CanonicalPath;
use crate::config::{ConfigError, RouteConfig, require};
use service_kit::ids::{DealId, RoomId};
use std::sync::Arc;

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `{deal}`: a lower-case hyphenated UUID, nothing else.
    Deal,
}

/// Which room guards a route.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Guard {
    None,
    /// `room = "deal"`: the room of the deal in the path.
    OfDeal,
    Named(RoomId),
}

#[derive(Debug, Clone)]
struct Route {
    pattern: Arc<str>,
    pieces: Vec<Piece>,
    /// Ends in `/*`: everything below (not the path itself).
    tail: bool,
    upstream: usize,
    guard: Guard,
    holds: bool,
}

/// All routes, most specific first.
#[derive(Debug, Clone)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// Where a path goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched<'t> {
    /// The pattern as configured: a label for metrics, never the raw path.
    pub pattern: &'t Arc<str>,
    /// Position in the list of upstreams.
    pub upstream: usize,
    /// The room in front.
    pub room: Option<RoomId>,
    /// A `POST` is a hold of the deal service.
    pub holds: bool,
}

enum Hit<'t> {
    No,
    Yes(Matched<'t>),
    NotADeal,
}

impl RouteTable {
    /// Reads the patterns.
    ///
    /// # Errors
    /// Naming the route whose pattern, upstream or room is wrong.
    pub fn new(routes: &[RouteConfig], upstreams: &[String], rooms: &[RoomId]) -> Result<Self, ConfigError> {
        let mut table = Vec::new();
        for (i, route) in routes.iter().enumerate() {
            table.push(Route::new(i, route, upstreams, rooms)?);
        }
        table.sort_by_key(|r| std::cmp::Reverse(r.rank()));
        for pair in table.windows(2) {
            if let [a, b] = pair {
                require(a.pattern != b.pattern, "gate.routes", &format!("`{}` is there twice", a.pattern))?;
            }
        }
        Ok(Self { routes: table })
    }

    /// The route of a path, if there is one. A path shaped like a guarded one, but without a proper
    /// deal id in it, has none: it must not fall through to a wider, unguarded route.
    pub fn find(&self, path: &CanonicalPath) -> Option<Matched<'_>> {
        for route in &self.routes {
            match route.matches(path.path()) {
                Hit::Yes(matched) => return Some(matched),
                Hit::NotADeal => return None,
                Hit::No => {}
            }
        }
        None
    }

    /// Whether `path` differs from a path guarded by `room` only by upper or lower case. Rooms in
    /// front of upstreams that ignore case refuse such paths instead of letting them slip past.
    pub fn guarded_in_another_case(&self, path: &CanonicalPath, is_case_insensitive: impl Fn(&RoomId) -> bool) -> bool {
        let lower = path.path().to_ascii_lowercase();
        self.routes.iter().any(|route| {
            let (Guard::Named(_) | Guard::OfDeal) = &route.guard else { return false };
            let folded = Route { pieces: route.pieces.iter().map(Piece::lower).collect(), ..route.clone() };
            match folded.matches(&lower) {
                Hit::Yes(Matched { room: Some(room), .. }) => {
                    is_case_insensitive(&room) && !matches!(route.matches(path.path()), Hit::Yes(_))
                }
                _ => false,
            }
        })
    }
}

impl Piece {
    fn lower(&self) -> Self {
        match self {
            Self::Text(t) => Self::Text(t.to_ascii_lowercase()),
            Self::Deal => Self::Deal,
        }
    }
}

impl Route {
    fn new(i: usize, config: &RouteConfig, upstreams: &[String], rooms: &[RoomId]) -> Result<Self, ConfigError> {
        let field = |name: &str| format!("gate.routes[{i}].{name}");
        let (body, tail) = match config.path.strip_suffix("/*") {
            Some(body) => (body, true),
            None => (config.path.as_str(), false),
        };
        // `{deal}` stands for something canonical, so the rest of the pattern must be canonical too.
        let sample = if body.is_empty() { "/".to_owned() } else { body.replace("{deal}", "deal") };
        require(
            config.path.starts_with('/') && CanonicalPath::parse(sample.as_bytes()).is_ok() && !body.contains('*'),
            &field("path"),
            "must be a canonical path, with `{deal}` as a whole segment and `/*` only at the end",
        )?;
        let mut pieces = Vec::new();
        for segment in body.split('/').skip(1) {
            pieces.push(match segment {
                "{deal}" => Piece::Deal,
                text => {
                    require(!text.contains(['{', '}']), &field("path"), "the only placeholder is `{deal}`")?;
                    Piece::Text(text.to_owned())
                }
            });
        }
        let upstream = upstreams.iter().position(|name| *name == config.upstream).ok_or_else(|| {
            ConfigError(format!("`{}`: no upstream is named `{}`", field("upstream"), config.upstream))
        })?;
        let guard = match config.room.as_deref() {
            None => Guard::None,
            Some("deal") => {
                require(
                    pieces.iter().filter(|p| **p == Piece::Deal).count() == 1,
                    &field("room"),
                    "`deal` needs one `{deal}` in the path",
                )?;
                Guard::OfDeal
            }
            Some(name) => Guard::Named(rooms.iter().find(|r| r.as_str() == name).cloned().ok_or_else(|| {
                ConfigError(format!("`{}`: no room is named `{name}` in `gate.rooms`", field("room")))
            })?),
        };
        require(
            !config.holds || guard == Guard::OfDeal,
            &field("holds"),
            "holds are taken in the room of a deal: it needs `room = \"deal\"`",
        )?;
        Ok(Self { pattern: config.path.as_str().into(), pieces, tail, upstream, guard, holds: config.holds })
    }

    /// More pieces first, then more fixed text, then exact before tail.
    fn rank(&self) -> (usize, usize, bool, Arc<str>) {
        let fixed = self.pieces.iter().filter(|p| matches!(p, Piece::Text(_))).count();
        (self.pieces.len(), fixed, !self.tail, self.pattern.clone())
    }

    fn matches(&self, path: &str) -> Hit<'_> {
        let mut segments = path.split('/').skip(1);
        let mut deal: Option<Option<DealId>> = None;
        for piece in &self.pieces {
            match (piece, segments.next()) {
                (Piece::Text(text), Some(segment)) if text == segment => {}
                (Piece::Deal, Some(segment)) => deal = Some(segment.parse().ok()),
                _ => return Hit::No,
            }
        }
        let more = match (segments.next(), segments.next()) {
            (None, _) => false,
            // Many servers answer `/buy/` like `/buy`: a guard on one is a guard on both.
            (Some(""), None) if !self.tail && self.guard != Guard::None => false,
            (Some(_), _) => true,
        };
        if more != self.tail {
            return Hit::No;
        }
        let room = match (&self.guard, deal) {
            (Guard::None, Some(None)) => return Hit::No,
            (_, Some(None)) => return Hit::NotADeal,
            (Guard::None, _) => None,
            (Guard::Named(room), _) => Some(room.clone()),
            (Guard::OfDeal, Some(Some(deal))) => Some(RoomId::of_deal(deal)),
            (Guard::OfDeal, None) => return Hit::NotADeal,
        };
        Hit::Yes(Matched { pattern: &self.pattern, upstream: self.upstream, room, holds: self.holds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RouteTable {
        let route = |path: &str, upstream: &str, room: Option<&str>| RouteConfig {
            path: path.into(),
            upstream: upstream.into(),
            room: room.map(Into::into),
            holds: false,
        };
        RouteTable::new(
            &[
                route("/*", "shop", None),
                route("/payments/*", "payments", None),
                route("/deals/{deal}/buy/*", "shop", Some("deal")),
                route("/deals/{deal}/buy", "shop", Some("deal")),
                route("/Launch/*", "shop", Some("launch")),
            ],
            &["shop".into(), "payments".into()],
            &["launch".parse().unwrap()],
        )
        .unwrap()
    }

    fn find(path: &str) -> Option<(String, Option<String>)> {
        let path = CanonicalPath::parse(path.as_bytes()).unwrap();
        table().find(&path).map(|m| (m.pattern.to_string(), m.room.map(|r| r.to_string())))
    }

    #[test]
    fn the_most_specific_route_wins() {
        let deal = DealId::new();
        let room = Some(format!("deal-{deal}"));
        assert_eq!(find(&format!("/deals/{deal}/buy")), Some(("/deals/{deal}/buy".into(), room.clone())));
        assert_eq!(find(&format!("/deals/{deal}/buy/")), Some(("/deals/{deal}/buy".into(), room.clone())));
        assert_eq!(find(&format!("/deals/{deal}/buy/now?x=1")), Some(("/deals/{deal}/buy/*".into(), room)));
        assert_eq!(find(&format!("/deals/{deal}")), Some(("/*".into(), None)));
        assert_eq!(find("/payments/x"), Some(("/payments/*".into(), None)));
        assert_eq!(find("/payments"), Some(("/*".into(), None)));
        assert_eq!(find("/"), Some(("/*".into(), None)));
        let home = RouteConfig { path: "/".into(), upstream: "shop".into(), room: None, holds: false };
        let home = RouteTable::new(&[home], &["shop".into()], &[]).unwrap();
        assert!(home.find(&CanonicalPath::parse(b"/").unwrap()).is_some());
        assert!(home.find(&CanonicalPath::parse(b"/a").unwrap()).is_none());
        assert_eq!(find("/Launch/x"), Some(("/Launch/*".into(), Some("launch".into()))));
    }

    #[test]
    fn a_deal_has_one_spelling() {
        let deal = DealId::new();
        let upper = deal.to_string().to_uppercase();
        let plain = deal.0.simple().to_string();
        for id in [upper.as_str(), plain.as_str(), "x", "0"] {
            assert_eq!(find(&format!("/deals/{id}/buy")), None, "must not fall through to `/*`");
        }
    }

    #[test]
    fn no_route_means_no() {
        let table = RouteTable::new(
            &[RouteConfig { path: "/only".into(), upstream: "shop".into(), room: None, holds: false }],
            &["shop".into()],
            &[],
        )
        .unwrap();
        assert_eq!(table.find(&CanonicalPath::parse(b"/other").unwrap()), None);
        assert_eq!(table.find(&CanonicalPath::parse(b"/only/").unwrap()), None);
    }

    #[test]
    fn a_guard_holds_for_the_path_with_a_slash_too() {
        let route = |path: &str, room: Option<&str>| RouteConfig {
            path: path.into(),
            upstream: "shop".into(),
            room: room.map(Into::into),
            holds: false,
        };
        let table = RouteTable::new(
            &[route("/*", None), route("/buy", Some("hall"))],
            &["shop".into()],
            &["hall".parse().unwrap()],
        )
        .unwrap();
        for (path, guarded) in [("/buy", true), ("/buy/", true), ("/buy/x", false), ("/buyer", false)] {
            let found = table.find(&CanonicalPath::parse(path.as_bytes()).unwrap()).unwrap();
            assert_eq!(found.room.is_some(), guarded, "{path}");
        }
    }

    #[test]
    fn another_case_of_a_guarded_path_is_seen() {
        let table = table();
        let other =
            |path: &str| table.guarded_in_another_case(&CanonicalPath::parse(path.as_bytes()).unwrap(), |_| true);
        assert!(other("/launch/x") && other("/LAUNCH/x"));
        assert!(!other("/Launch/x") && !other("/elsewhere"));
        let deal = DealId::new();
        assert!(
            other(&format!("/DEALS/{deal}/buy")) && other(&format!("/deals/{}/buy", deal.to_string().to_uppercase()))
        );
        assert!(!table.guarded_in_another_case(&CanonicalPath::parse(b"/launch/x").unwrap(), |_| false));
    }

    #[test]
    fn wrong_tables_name_the_field() {
        for (path, upstream, room, named) in [
            ("deals", "shop", None, "routes[0].path"),
            ("/a//b", "shop", None, "routes[0].path"),
            ("/a/*/b", "shop", None, "routes[0].path"),
            ("/{x}", "shop", None, "routes[0].path"),
            ("/a", "nobody", None, "routes[0].upstream"),
            ("/a", "shop", Some("deal"), "routes[0].room"),
            ("/a", "shop", Some("hall"), "routes[0].room"),
        ] {
            let route =
                RouteConfig { path: path.into(), upstream: upstream.into(), room: room.map(Into::into), holds: false };
            let error = RouteTable::new(&[route], &["shop".into()], &[]).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
