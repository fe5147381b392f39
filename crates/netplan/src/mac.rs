//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An Ethernet address; text form `02:00:00:aa:bb:cc` (lower case, also inside JSON).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// A text that is no unicast Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacError(pub String);

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an Ethernet address of six hexadecimal bytes such as 02:00:00:12:34:56", self.0)
    }
}

impl std::error::Error for MacError {}

impl MacAddr {
    /// The address upstream gives to the masquerade bridge.
    pub const MASQUERADE_BRIDGE: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0]);

    /// The six bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether a station may own it (neither a group address nor all zeros).
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// A locally administered unicast address made of `seed` and `purpose`: the same inputs give the same address.
    #[cfg(feature = "plan")]
    pub fn derive(seed: &str, purpose: &str) -> MacAddr {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        hash.update(seed.as_bytes());
        hash.update([0]);
        hash.update(purpose.as_bytes());
        let digest = hash.finalize();
        // 0x0a, not 0x02: the bridge's well-known 02:00:… can then never be hit.
        MacAddr([0x0a, digest[0], digest[1], digest[2], digest[3], digest[4]])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    /// Reads `aa:bb:cc:dd:ee:ff` or `aa-bb-cc-dd-ee-ff`, in either case.
    fn from_str(text: &str) -> Result<Self, MacError> {
        let error = || MacError(text.chars().take(64).collect());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0u8; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(error)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(error());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(MacAddr(octets)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
