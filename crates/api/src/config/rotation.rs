//! `spec.certificateRotateStrategy`, resolved: how long certificates last and when they are renewed.

use std::time::Duration;

use jiff::SignedDuration;

use super::ConfigError;
use crate::{CertConfig, KubeVirt};

const HOUR: u64 = 3600;
/// A certificate must outlast a component that is away for a while, and renewals must not come faster than they are mounted.
const SHORTEST: Duration = Duration::from_secs(600);
/// A renewal that fails is tried again for so long before the certificate ends, and the next one comes no sooner.
const MARGIN: Duration = Duration::from_secs(300);

/// Lifetimes of the certificate authority and of what it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateRotation {
    pub ca: Lifetime,
    pub server: Lifetime,
}

/// How long a certificate is valid, and how long before its end it is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub duration: Duration,
    pub renew_before: Duration,
}

impl Default for CertificateRotation {
    /// Upstream's: a week for the authority, a day for certificates, renewed when a fifth is left.
    fn default() -> Self {
        let lifetime = |hours| Lifetime {
            duration: Duration::from_secs(hours * HOUR),
            renew_before: Duration::from_secs(hours * HOUR / 5),
        };
        Self { ca: lifetime(7 * 24), server: lifetime(24) }
    }
}

impl CertificateRotation {
    /// What a KubeVirt resource asks for. `renewBefore` is a fifth of a given `duration`, but no less than five minutes, unless it is given too.
    pub fn from_kubevirt(kubevirt: &KubeVirt) -> Result<Self, ConfigError> {
        let default = Self::default();
        let own = kubevirt.spec.certificate_rotate_strategy.as_ref().and_then(|strategy| strategy.self_signed.as_ref());
        let Some(own) = own else { return Ok(default) };
        let ca = lifetime(own.ca.as_ref(), default.ca, CA)?;
        let server = lifetime(own.server.as_ref(), default.server, SERVER)?;
        if server.duration > ca.duration {
            return Err(ConfigError {
                field: SERVER[0],
                value: format!("{}s", server.duration.as_secs()),
                way_out: "a duration that is not longer than that of the certificate authority",
            });
        }
        Ok(Self { ca, server })
    }
}

/// Paths of `duration` and `renewBefore`.
type Fields = [&'static str; 2];

const CA: Fields = [
    "spec.certificateRotateStrategy.selfSigned.ca.duration",
    "spec.certificateRotateStrategy.selfSigned.ca.renewBefore",
];
const SERVER: Fields = [
    "spec.certificateRotateStrategy.selfSigned.server.duration",
    "spec.certificateRotateStrategy.selfSigned.server.renewBefore",
];

fn lifetime(
    given: Option<&CertConfig>,
    default: Lifetime,
    [duration_at, renew_at]: Fields,
) -> Result<Lifetime, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    let duration = match &given.duration {
        Some(text) => go_duration(text, duration_at)?,
        None => default.duration,
    };
    if duration < SHORTEST {
        let value = given.duration.clone().unwrap_or_default();
        return Err(ConfigError { field: duration_at, value, way_out: "at least 10m" });
    }
    let renew_before = match &given.renew_before {
        Some(text) => go_duration(text, renew_at)?,
        None => MARGIN.max(duration / 5),
    };
    if renew_before < MARGIN || duration.saturating_sub(renew_before) < MARGIN {
        let value = given.renew_before.clone().unwrap_or_default();
        return Err(ConfigError {
            field: renew_at,
            value,
            way_out: "at least 5m, and at least 5m less than the duration",
        });
    }
    Ok(Lifetime { duration, renew_before })
}

/// A duration as Go writes it: `24h0m0s`, `1h30m`, `90m`. The parser reads more than Go does, which other clients of the
/// object could not.
fn go_duration(text: &str, field: &'static str) -> Result<Duration, ConfigError> {
    let is_go = text.chars().all(|c| c.is_ascii_digit() || "hmsuµn.".contains(c));
    let parsed = if is_go { text.parse::<SignedDuration>().ok() } else { None };
    parsed.and_then(|duration| Duration::try_from(duration).ok()).ok_or_else(|| ConfigError {
        field,
        value: text.to_owned(),
        way_out: "a duration such as 24h0m0s",
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rotation(self_signed: Value) -> Result<CertificateRotation, String> {
        let kubevirt: KubeVirt = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"},
            "spec": {"certificateRotateStrategy": {"selfSigned": self_signed}}
        }))
        .unwrap();
        CertificateRotation::from_kubevirt(&kubevirt).map_err(|error| error.to_string())
    }

    fn minutes(ca: (u64, u64), server: (u64, u64)) -> CertificateRotation {
        let lifetime = |(duration, renew_before): (u64, u64)| Lifetime {
            duration: Duration::from_secs(duration * 60),
            renew_before: Duration::from_secs(renew_before * 60),
        };
        CertificateRotation { ca: lifetime(ca), server: lifetime(server) }
    }

    #[test]
    fn lifetimes_are_read_as_go_writes_them() {
        assert_eq!(rotation(json!({})), Ok(minutes((10_080, 2016), (1440, 288))));
        let both = json!({
            "ca": {"duration": "48h0m0s", "renewBefore": "16h"}, "server": {"duration": "1h30m", "renewBefore": "20m"}
        });
        assert_eq!(rotation(both), Ok(minutes((2880, 960), (90, 20))));
        assert_eq!(rotation(json!({"server": {"duration": "50m"}})), Ok(minutes((10_080, 2016), (50, 10))));
        assert_eq!(rotation(json!({"server": {"duration": "10m"}})), Ok(minutes((10_080, 2016), (10, 5))));
    }

    #[test]
    fn lifetimes_that_cannot_work_are_refused_with_path_and_way_out() {
        let at = "spec.certificateRotateStrategy.selfSigned";
        for (given, text) in [
            (
                json!({"ca": {"duration": "2 days"}}),
                "ca.duration: \"2 days\" is not valid: use a duration such as 24h0m0s",
            ),
            (json!({"ca": {"duration": "-5h"}}), "ca.duration: \"-5h\" is not valid: use a duration such as 24h0m0s"),
            (json!({"ca": {"duration": ""}}), "ca.duration: \"\" is not valid: use a duration such as 24h0m0s"),
            (json!({"server": {"duration": "1m"}}), "server.duration: \"1m\" is not valid: use at least 10m"),
            (
                json!({"server": {"duration": "1h", "renewBefore": "1h"}}),
                "server.renewBefore: \"1h\" is not valid: use at least 5m, and at least 5m less than the duration",
            ),
            (
                json!({"server": {"duration": "1h", "renewBefore": "0s"}}),
                "server.renewBefore: \"0s\" is not valid: use at least 5m, and at least 5m less than the duration",
            ),
            (
                json!({"ca": {"duration": "48h", "renewBefore": "47h59m"}}),
                "ca.renewBefore: \"47h59m\" is not valid: use at least 5m, and at least 5m less than the duration",
            ),
            (
                json!({"ca": {"duration": "1h"}}),
                "server.duration: \"86400s\" is not valid: use a duration that is not longer than that of the certificate authority",
            ),
        ] {
            assert_eq!(rotation(given).unwrap_err(), format!("{at}.{text}"));
        }
    }
}
