//! Addresses to listen on.

use std::net::IpAddr;

use anyhow::Context;

/// The address that `--address` names: an IP address, or a host name such as `localhost`. Of several the first of IPv4 is
/// taken, as upstream does.
pub(crate) async fn resolve(name: &str) -> anyhow::Result<IpAddr> {
    if let Ok(address) = name.parse() {
        return Ok(address);
    }
    let found = tokio::net::lookup_host((name, 0))
        .await
        .with_context(|| format!("--address {name} is neither an IP address nor a host name that is known here"))?;
    let mut addresses: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().with_context(|| format!("--address {name}: the host name has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn host_names_and_addresses_are_taken() {
        for (name, expected) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1")] {
            assert_eq!(resolve(name).await.unwrap().to_string(), expected, "{name}");
        }
        assert!(resolve("localhost").await.unwrap().is_loopback());
        let error = resolve("no host").await.unwrap_err().to_string();
        assert!(error.contains("--address no host"), "{error}");
    }
}
