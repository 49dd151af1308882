//! `floodgate room codes`: codes for a lane, or invitations to an invite-only room. Only the signing keys are needed:
//! a code is a signature, no list of them is kept anywhere.

use crate::cli::ConfigArgs;
use crate::output;
use crate::settings::{Settings, section};
use clap::Args;
use proxy::code::Codes;
use queue::settings::RoomSettings;
use service_kit::config::ConfigError;
use service_kit::ids::RoomId;
use service_kit::keys::KeyRing;
use std::process::ExitCode;

/// Options of `room codes`.
#[derive(Debug, Args)]
pub struct CodesArgs {
    /// Configuration file and where to look without one.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Name of the room
    pub room: RoomId,
    /// Lane that the codes open [default: plain invitations]
    #[arg(long, value_name = "NAME")]
    pub lane: Option<String>,
    /// How many codes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub count: u32,
    /// How many people may use each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub uses: u16,
    /// Serial number of the first [default: random]
    ///
    /// The same serial gives the same code again.
    #[arg(long, value_name = "N", verbatim_doc_comment)]
    pub first: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints codes, one per line.
///
/// # Errors
/// When the configuration has no keys, or says that the room has no such lane.
pub fn run(args: &CodesArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::load(&args.config)?;
    let ring = KeyRing::new(&section(settings.keys, "keys")?)?;
    let rooms = settings.gate.map(|gate| gate.rooms).unwrap_or_default();
    let lane = args.lane.as_deref().unwrap_or("");
    match rooms.iter().find(|r| r.room == args.room) {
        Some(room) => has_lane(room, lane)?,
        None if lane.is_empty() => {}
        None => output::note(&format!(
            "The configuration does not have the room {}: make sure that it has a lane `{lane}`.",
            args.room
        )),
    }
    let codes = make(&ring, args, lane, args.first.unwrap_or_else(rand::random));
    if args.json {
        let document = serde_json::json!({
            "room": args.room, "lane": args.lane, "uses": args.uses, "codes": codes,
        });
        output::data(&document.to_string());
    } else {
        for code in &codes {
            output::data(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn make(ring: &KeyRing, args: &CodesArgs, lane: &str, first: u32) -> Vec<String> {
    let codes = Codes::new(ring);
    (0..args.count).map(|n| codes.sign(&args.room, lane, first.wrapping_add(n), args.uses)).collect()
}

fn has_lane(room: &RoomSettings, lane: &str) -> Result<(), ConfigError> {
    if lane.is_empty() || room.lanes.iter().any(|l| l.name == lane) {
        return Ok(());
    }
    let names: Vec<&str> = room.lanes.iter().map(|l| l.name.as_str()).collect();
    Err(ConfigError(format!("`--lane`: the room {} has the lanes [{}]", room.room, names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use service_kit::keys::KeysConfig;
    use std::collections::BTreeSet;

    fn args(count: u32) -> CodesArgs {
        CodesArgs {
            config: ConfigArgs { config: None },
            room: "hall".parse().unwrap(),
            lane: Some("vip".into()),
            count,
            uses: 2,
            first: None,
            json: false,
        }
    }

    #[test]
    fn each_code_is_another_and_the_gate_knows_it() {
        let ring = KeyRing::new(&KeysConfig { ring: vec![KeyRing::generate("a")] }).unwrap();
        let args = args(500);
        // Around the end of the serials too.
        let made = make(&ring, &args, "vip", u32::MAX - 100);
        assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 500);
        assert_eq!(made, make(&ring, &args, "vip", u32::MAX - 100), "the same serials, the same codes");
        let lanes = [queue::lane::Lane { name: "vip".into(), share_percent: 10, codes: vec![] }];
        for code in &made {
            let code = Codes::new(&ring).signed(code, &args.room, &lanes).unwrap();
            assert_eq!((code.lane, code.uses_max), (1, Some(2)));
        }
    }

    #[test]
    fn a_lane_that_the_room_does_not_have_is_named() {
        let room: RoomSettings = serde_json::from_str(
            r#"{"room":"hall","title":"Hall","rate_per_s":1,"inside_max":1,"lanes":[{"name":"vip","share_percent":10}]}"#,
        )
        .unwrap();
        assert!(has_lane(&room, "vip").is_ok() && has_lane(&room, "").is_ok());
        assert!(has_lane(&room, "press").unwrap_err().to_string().contains("vip"));
    }
}
