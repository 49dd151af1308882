//! Lanes: parts of one line that share the rate by weight. Lane 0 is the main one; a code opens another.
//!
//! A place is `tag × 8 + lane`. Tags are start-time fair queueing (Goyal, Vin, Cheng 1996): each newcomer's tag is
//! the larger of the present tag of the line and the last one of the lane, plus [`Lane::cost`]; the lowest place is
//! called first. So every lane gets its share while somebody waits in it, nobody starves, and inside a lane the order
//! is the order of arrival.

use serde::{Deserialize, Serialize};
use service_kit::config::{ConfigError, require};

/// Most lanes of a room beside the main one.
pub const LANES_MAX: usize = 4;
/// The lane of those who come too often from one address: behind everybody who waits, with a hundredth of the rate.
pub const DEMOTED: u8 = 7;
/// Places between two neighbours of one lane that has the whole rate.
pub const UNIT: u64 = 1_000;
/// A place is `tag × LANE_SLOTS + lane`, so no two places of different lanes are equal.
pub const LANE_SLOTS: u64 = 8;
/// Most codes of a lane that are chosen words.
pub const CODES_MAX: usize = 100;
/// The share of the demoted, in percent.
const DEMOTED_SHARE_PERCENT: u64 = 1;

/// A lane beside the main one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lane {
    /// Its name, for people and metrics: `a-z`, `0-9`, `-`.
    pub name: String,
    /// Its share of the calls while somebody waits in it, 1 to 90 percent.
    pub share_percent: u8,
    /// Chosen words that open it; single codes are made by `floodgate room codes`.
    #[serde(default)]
    pub codes: Vec<Code>,
}

/// A chosen word that opens a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// The word, compared without regard to case: 4 to 32 letters, digits and `-`.
    pub code: String,
    /// How many people may use it; `None` = any number.
    #[serde(default)]
    pub uses_max: Option<u32>,
}

/// The cost of one person in tags: the smaller the share, the further apart.
pub fn cost(lanes: &[Lane], lane: u8) -> u64 {
    let given: u64 = lanes.iter().map(|l| u64::from(l.share_percent)).sum();
    let share = match lane {
        0 => 100_u64.saturating_sub(given),
        DEMOTED => DEMOTED_SHARE_PERCENT,
        i => lanes.get(usize::from(i) - 1).map_or(DEMOTED_SHARE_PERCENT, |l| u64::from(l.share_percent)),
    };
    (UNIT * 100).div_ceil(share.max(1))
}

/// Checks the lanes of a room.
///
/// # Errors
/// Names the first lane that is wrong.
pub fn validate(lanes: &[Lane]) -> Result<(), ConfigError> {
    require(lanes.len() <= LANES_MAX, "lanes", "at most 4 beside the main one")?;
    let given: u32 = lanes.iter().map(|l| u32::from(l.share_percent)).sum();
    require(given <= 90, "lanes", "together at most 90 percent: the main lane keeps 10")?;
    let word = |text: &str, min: usize| {
        (min..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let mut codes: Vec<String> = Vec::new();
    for (i, lane) in lanes.iter().enumerate() {
        let field = |name: &str| format!("lanes[{i}].{name}");
        let twice = lanes.iter().filter(|l| l.name == lane.name).count() > 1;
        let lower = lane.name.bytes().all(|b| !b.is_ascii_uppercase());
        require(
            word(&lane.name, 1) && lower && !twice && lane.name != "main" && lane.name != "demoted",
            &field("name"),
            "a-z, 0-9 and -, there once, neither `main` nor `demoted`",
        )?;
        require((1..=90).contains(&lane.share_percent), &field("share_percent"), "1 to 90")?;
        require(lane.codes.len() <= CODES_MAX, &field("codes"), "at most 100")?;
        for code in &lane.codes {
            let folded = code.code.to_ascii_uppercase();
            require(
                word(&code.code, 4) && !codes.contains(&folded) && code.uses_max != Some(0),
                &field("codes"),
                "4 to 32 letters, digits and -, each once in the room, uses_max at least 1",
            )?;
            codes.push(folded);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str, share_percent: u8) -> Lane {
        Lane { name: name.into(), share_percent, codes: vec![] }
    }

    #[test]
    fn the_cost_is_the_reverse_of_the_share() {
        let lanes = [lane("vip", 20), lane("press", 5)];
        assert_eq!((cost(&[], 0), cost(&lanes, 0), cost(&lanes, 1), cost(&lanes, 2)), (1_000, 1_334, 5_000, 20_000));
        assert_eq!(cost(&lanes, DEMOTED), 100_000);
    }

    #[test]
    fn wrong_lanes_are_named() {
        let code = |code: &str| Lane { codes: vec![Code { code: code.into(), uses_max: None }], ..lane("vip", 10) };
        for (lanes, field) in [
            (vec![lane("vip", 60), lane("press", 40)], "lanes"),
            (vec![lane("VIP", 10)], "lanes[0].name"),
            (vec![lane("vip", 10), lane("vip", 10)], "lanes[0].name"),
            (vec![lane("main", 10)], "lanes[0].name"),
            (vec![lane("vip", 0)], "lanes[0].share_percent"),
            (vec![code("abc")], "lanes[0].codes"),
            (vec![code("spring sale")], "lanes[0].codes"),
            (vec![lane("a", 1), lane("b", 1), lane("c", 1), lane("d", 1), lane("e", 1)], "lanes"),
        ] {
            let error = validate(&lanes).unwrap_err().to_string();
            assert!(error.contains(&format!("`{field}`")), "{field}: {error}");
        }
        assert!(validate(&[code("SUMMER-24")]).is_ok());
    }
}
