//! The part of a lease that does not depend on the binding.

use std::net::{IpAddr, Ipv4Addr};

use fv_api::DHCPOptions;
use ipnet::Ipv4Net;

use crate::dhcp::{DhcpInterface, DhcpPrivateOption, LEASE_SECONDS};
use crate::plan::{Context, NetPlanError};

pub(crate) fn base(c: &Context<'_>, server: Ipv4Addr, guest: Ipv4Net) -> Result<DhcpInterface, NetPlanError> {
    let vmi = c.input.vmi;
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let hostname = vmi.spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(name);
    // A hostname is one label; a VMI's name may have dots.
    let hostname = hostname.split('.').next().unwrap_or_default();
    let search = search(c);
    let mut dhcp = DhcpInterface {
        name: c.interface.name.clone(),
        bridge: c.pod_bridge.clone(),
        server,
        guest_mac: c.guest_mac,
        guest,
        router: None,
        routes: Vec::new(),
        dns: c.input.dns.nameservers.iter().filter_map(ipv4).collect(),
        domain: search.iter().max_by_key(|s| s.len()).cloned(),
        search,
        mtu: c.mtu,
        hostname: Some(hostname.to_owned()).filter(|h| !h.is_empty()),
        lease_seconds: LEASE_SECONDS,
        ntp: Vec::new(),
        tftp_server: None,
        boot_file: None,
        private: Vec::new(),
    };
    if let Some(options) = &c.interface.dhcp_options {
        user_options(c.index, options, &mut dhcp)?;
    }
    Ok(dhcp)
}

/// The pod's search list; a VMI with a subdomain also gets `<subdomain>.<namespace>.svc.<cluster domain>`, in front.
fn search(c: &Context<'_>) -> Vec<String> {
    let mut search = c.input.dns.search.clone();
    let namespace = c.input.vmi.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(subdomain) = c.input.vmi.spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        let services = format!("{namespace}.svc.");
        if let Some(domain) = search.iter().find(|d| d.starts_with(&services)) {
            let own = format!("{subdomain}.{domain}");
            if !search.contains(&own) {
                search.insert(0, own);
            }
        }
    }
    search
}

fn user_options(index: usize, options: &DHCPOptions, dhcp: &mut DhcpInterface) -> Result<(), NetPlanError> {
    let bad = |field: &'static str, value: &str, allowed: &'static str| NetPlanError::DhcpOption {
        index,
        field,
        value: value.to_owned(),
        allowed,
    };
    let text = |field: &'static str, value: &Option<String>| match value.as_deref() {
        None | Some("") => Ok(None),
        Some(value) if value.len() <= 255 => Ok(Some(value.to_owned())),
        Some(value) => Err(bad(field, value, "at most 255 bytes")),
    };
    dhcp.tftp_server = text("tftpServerName", &options.tftp_server_name)?;
    dhcp.boot_file = text("bootFileName", &options.boot_file_name)?;
    for server in &options.ntp_servers {
        dhcp.ntp.push(server.parse().map_err(|_| bad("ntpServers", server, "IPv4 addresses"))?);
    }
    for option in &options.private_options {
        let code = u8::try_from(option.option)
            .ok()
            .filter(|code| (224..=254).contains(code))
            .ok_or_else(|| bad("privateOptions.option", &option.option.to_string(), "224 to 254"))?;
        if option.value.len() > 255 {
            return Err(bad("privateOptions.value", &option.value, "at most 255 bytes"));
        }
        dhcp.private.push(DhcpPrivateOption { code, value: option.value.clone() });
    }
    Ok(())
}

fn ipv4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}
