//! Children never outlive the launcher, not even when it is killed with -9.
//!
//! A role asks the kernel itself to be killed when its parent dies. The stores cannot ask: they
//! are started through setpriv, which asks and then becomes them (see `service_kit::private_store`).

/// Environment variable that tells a role the process id of its launcher.
pub const LAUNCHER_PID: &str = "FLOODGATE_LAUNCHER_PID";

/// In a role that a launcher started: die when the launcher dies. Elsewhere: nothing.
pub fn die_with_launcher() {
    let Some(launcher) = std::env::var(LAUNCHER_PID).ok().and_then(|pid| pid.parse::<u32>().ok()) else { return };
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    // The launcher may have died before the line above: then nobody will send the signal.
    if std::os::unix::process::parent_id() != launcher {
        std::process::exit(1);
    }
}
