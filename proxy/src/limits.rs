//! Limits per client address, and who the client is.
//!
//! The store of a keyed limiter never forgets by itself, so a sweep forgets idle addresses, and beyond
//! `addresses_max` new requests are counted in 4,096 shared buckets: memory stays bounded whatever comes.

use crate::config::LimitsConfig;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Buckets that are shared once too many addresses are remembered.
const SHARED_BUCKETS: u64 = 4_096;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Asking for a number. Beyond this nobody gets one; who is merely greedy ([`Limits::is_greedy`]) is demoted.
    Join,
    /// Claims and leaves: each is a script in Redis.
    Claim,
    /// Trying codes: wrong ones, and chosen words.
    Code,
    /// Status polls and pages.
    Poll,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Shared(u64),
}

/// The limiters of this gate.
pub struct Limits {
    /// The limit above which joins are demoted.
    joins: DefaultKeyedRateLimiter<Key>,
    /// The limit above which they are refused.
    joins_hard: DefaultKeyedRateLimiter<Key>,
    claims: DefaultKeyedRateLimiter<Key>,
    codes: DefaultKeyedRateLimiter<Key>,
    polls: DefaultKeyedRateLimiter<Key>,
    addresses_max: usize,
    addresses: AtomicUsize,
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Limits({} addresses)", self.addresses.load(Ordering::Relaxed))
    }
}

impl Limits {
    /// Limiters as configured.
    pub fn new(config: &LimitsConfig) -> Self {
        let at_least_1 = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let keyed = |per_s: u32, burst: u32| {
            RateLimiter::keyed(Quota::per_second(at_least_1(per_s)).allow_burst(at_least_1(burst)))
        };
        let (hard_per_s, hard_burst) = config.joins_hard();
        Self {
            joins: keyed(config.joins_per_s, config.joins_burst),
            joins_hard: keyed(hard_per_s, hard_burst),
            claims: keyed(config.claims_per_s, config.claims_burst),
            codes: RateLimiter::keyed(Quota::per_minute(at_least_1(config.codes_per_min))),
            polls: keyed(config.polls_per_s, config.polls_burst),
            addresses_max: config.addresses_max,
            addresses: AtomicUsize::new(0),
        }
    }

    /// Takes one from the client's budget.
    ///
    /// # Errors
    /// Seconds to wait when there is none left.
    pub fn check(&self, what: Limited, client: IpAddr) -> Result<(), u64> {
        let limiter = match what {
            Limited::Join => &self.joins_hard,
            Limited::Claim => &self.claims,
            Limited::Code => &self.codes,
            Limited::Poll => &self.polls,
        };
        limiter
            .check_key(&self.key(client))
            .map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()).as_secs() + 1)
    }

    /// Counts a newcomer from this address; says whether there are more of them than one address may bring.
    pub fn is_greedy(&self, client: IpAddr) -> bool {
        self.joins.check_key(&self.key(client)).is_err()
    }

    fn key(&self, client: IpAddr) -> Key {
        let address = network(client);
        if self.addresses.load(Ordering::Relaxed) < self.addresses_max {
            return Key::Address(address);
        }
        let mut hasher = DefaultHasher::new();
        address.hash(&mut hasher);
        Key::Shared(hasher.finish() % SHARED_BUCKETS)
    }

    /// Forgets idle addresses; returns how many are still remembered. Call it every second.
    pub fn sweep(&self) -> usize {
        let mut count = 0;
        for limiter in [&self.joins, &self.joins_hard, &self.claims, &self.codes, &self.polls] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
            count = count.max(limiter.len());
        }
        self.addresses.store(count, Ordering::Relaxed);
        count
    }
}

/// IPv6 by /64: one customer usually has all of it.
pub fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX))),
        },
        v4 => v4,
    }
}

/// The client's address: the peer, or with `trusted_proxies` = n the n-th entry of `X-Forwarded-For`
/// from the right. Entries further left are the client's own words and are not looked at.
pub fn client_address(peer: Option<IpAddr>, headers: &HeaderMap, trusted_proxies: usize) -> IpAddr {
    let peer = peer.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    if trusted_proxies == 0 {
        return peer;
    }
    let entries: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).collect();
    entries.iter().rev().nth(trusted_proxies - 1).and_then(|e| e.trim().parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(addresses_max: usize) -> Limits {
        Limits::new(&LimitsConfig {
            joins_per_s: 1,
            joins_burst: 1,
            joins_hard_per_s: Some(1),
            joins_hard_burst: Some(2),
            addresses_max,
            ..LimitsConfig::default()
        })
    }

    #[test]
    fn each_address_has_its_own_budget() {
        let limits = limits(1_000);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(limits.check(Limited::Join, a).is_ok() && limits.check(Limited::Join, a).is_ok());
        assert!(limits.check(Limited::Join, a).is_err_and(|s| s >= 1));
        assert!(limits.check(Limited::Join, b).is_ok());
        for other in [Limited::Poll, Limited::Claim, Limited::Code] {
            assert!(limits.check(other, a).is_ok(), "{other:?} has its own budget");
        }
        assert!(!limits.is_greedy(a) && limits.is_greedy(a) && !limits.is_greedy(b));
        assert_eq!(limits.sweep(), 2);
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let limits = limits(1_000);
        for host in ["2001:db8::1", "2001:db8::2"] {
            assert!(limits.check(Limited::Join, host.parse().unwrap()).is_ok());
        }
        assert!(limits.check(Limited::Join, "2001:db8::3".parse().unwrap()).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let limits = limits(1_000);
        for i in 0..40_000_u32 {
            let _ = limits.check(Limited::Join, IpAddr::V4(i.into()));
            if i % 500 == 0 {
                limits.sweep();
            }
        }
        assert!(limits.sweep() <= 1_500 + SHARED_BUCKETS as usize);
    }

    #[test]
    fn forwarded_for_counts_from_the_right_and_only_when_trusted() {
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "6.6.6.6, 203.0.113.9".parse().unwrap());
        headers.append("x-forwarded-for", "10.0.0.2".parse().unwrap());
        assert_eq!(client_address(Some(peer), &headers, 0), peer);
        assert_eq!(client_address(Some(peer), &headers, 1).to_string(), "10.0.0.2");
        assert_eq!(client_address(Some(peer), &headers, 2).to_string(), "203.0.113.9");
        assert_eq!(client_address(Some(peer), &headers, 7), peer);
    }
}
