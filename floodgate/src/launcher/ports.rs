//! Chooses free ports, starting from the defaults that the documentation names.

use anyhow::Context as _;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// How far from its default a port may be.
const SEARCH_MAX: u16 = 2_000;
/// Longest wait for another launcher that is starting, in steps of 100 ms.
const TURN_STEPS_MAX: u32 = 600;

/// Where everything listens; loopback only.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The gate: the one address that people use.
    pub gate: SocketAddr,
    /// The deal service.
    pub shop: SocketAddr,
    /// The payment adapter.
    pub payments: SocketAddr,
    /// The simulated provider.
    pub simulator: SocketAddr,
    /// Admin port of the gate.
    pub gate_admin: SocketAddr,
    /// Admin port of the deal service.
    pub shop_admin: SocketAddr,
    /// Admin port of the payment adapter.
    pub payments_admin: SocketAddr,
    /// Admin port of the simulated provider.
    pub simulator_admin: SocketAddr,
}

/// Held from choosing ports until they are bound, so that two launchers do not choose the same.
#[derive(Debug)]
pub struct Turn {
    _lock: Option<File>,
}

/// Waits until no other launcher of this user is between choosing and binding. Gives up waiting
/// after a minute: a collision is then found by the role that cannot bind.
pub async fn turn() -> Turn {
    let name = format!("floodgate-ports-{}.lock", rustix::process::geteuid().as_raw());
    let Ok(lock) = File::options().create(true).truncate(false).write(true).open(std::env::temp_dir().join(name))
    else {
        return Turn { _lock: None };
    };
    for _ in 0..TURN_STEPS_MAX {
        if lock.try_lock().is_ok() {
            return Turn { _lock: Some(lock) };
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Turn { _lock: None }
}

/// The default of each port, or the next free one above it.
///
/// # Errors
/// When nothing is free near a default.
pub fn choose() -> anyhow::Result<Ports> {
    let mut taken = BTreeSet::new();
    let mut next = |default: u16| free(default, &mut taken);
    Ok(Ports {
        gate: next(8080)?,
        shop: next(8081)?,
        payments: next(8082)?,
        simulator: next(8083)?,
        gate_admin: next(9101)?,
        shop_admin: next(9102)?,
        payments_admin: next(9103)?,
        simulator_admin: next(9104)?,
    })
}

fn free(default: u16, taken: &mut BTreeSet<u16>) -> anyhow::Result<SocketAddr> {
    (default..default.saturating_add(SEARCH_MAX))
        .find(|port| !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .inspect(|port| {
            taken.insert(*port);
        })
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .with_context(|| format!("no port from {default} to {} is free", default.saturating_add(SEARCH_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_passed_over() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        let mut taken = BTreeSet::new();
        let chosen = free(port, &mut taken).unwrap();
        assert!(chosen.port() > port);
        assert_ne!(free(port, &mut taken).unwrap(), chosen, "nor is one given twice");
    }
}
