//! Networks of internet addresses, as rules and published lists name them: `192.0.2.0/24`, `2001:db8::/32`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The text does not name a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a network such as 192.0.2.0/24 or 2001:db8::/32")]
pub struct BadNetwork;

/// All addresses between two, both included. IPv4 counts as IPv4-mapped IPv6, so one order holds for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    first: u128,
    last: u128,
}

impl Network {
    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&number(address))
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    /// `address/bits`, or one address. Bits behind the prefix must be 0: a slip of the pen is not guessed at.
    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = match bits {
            None => width,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| BadNetwork)?
            }
            Some(_) => return Err(BadNetwork),
        };
        let free = width.checked_sub(bits).ok_or(BadNetwork)?;
        // 128 free bits: the whole of IPv6, which no shift can make.
        let inside = 1_u128.checked_shl(free).map_or(u128::MAX, |n| n - 1);
        let first = number(address);
        if first & inside != 0 {
            return Err(BadNetwork);
        }
        Ok(Self { first, last: first | inside })
    }
}

/// Many networks, found by a binary search.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// Sorted, without overlaps.
    merged: Vec<Network>,
}

impl Networks {
    /// Whether the address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let after = self.merged.partition_point(|n| n.first <= number);
        after.checked_sub(1).and_then(|i| self.merged.get(i)).is_some_and(|n| number <= n.last)
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.merged.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        let mut all: Vec<Network> = networks.into_iter().collect();
        all.sort_unstable();
        let mut merged: Vec<Network> = Vec::with_capacity(all.len());
        for network in all {
            match merged.last_mut() {
                Some(before) if network.first <= before.last => before.last = before.last.max(network.last),
                _ => merged.push(network),
            }
        }
        Self { merged }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => Ipv6Addr::into(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_own_addresses_and_no_others() {
        assert!(contains("192.0.2.0/24", "192.0.2.0") && contains("192.0.2.0/24", "192.0.2.255"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0") && !contains("192.0.2.0/24", "192.0.1.255"));
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.8"));
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.9"), "the same address, written as IPv6");
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("::/0", "2001:db8::1") && contains("0.0.0.0/0", "255.255.255.255"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
    }

    #[test]
    fn a_slip_of_the_pen_is_no_network() {
        for text in [
            "",
            "/",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.0/024x",
            "2001:db8::/129",
            "2001:db8::1/64",
            "shop",
        ] {
            assert_eq!(text.parse::<Network>(), Err(BadNetwork), "{text}");
        }
    }

    #[test]
    fn many_are_searched_as_one() {
        let networks: Networks = ["192.0.2.0/24", "192.0.2.128/25", "10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|n| n.parse().unwrap())
            .collect();
        for (address, inside) in [
            ("192.0.2.1", true),
            ("192.0.2.200", true),
            ("192.0.3.0", false),
            ("9.255.255.255", false),
            ("10.1.2.3", true),
            ("2001:db8::1", true),
            ("2001:db7::1", false),
            ("::", false),
        ] {
            assert_eq!(networks.contains(address.parse().unwrap()), inside, "{address}");
        }
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
    }
}
