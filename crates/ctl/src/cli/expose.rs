//! Flags of `expose`.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub struct Expose {
    /// `vm` or `vmi`.
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// Name of the VM or VMI.
    #[arg(value_name = "NAME", id = "target")]
    pub target: String,
    /// Name of the Service.
    #[arg(long)]
    pub name: String,
    /// Port of the Service; by default the ports that the interface on the pod's network lists.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Number or name of the guest's port; by default the Service's.
    #[arg(long, requires = "port")]
    pub target_port: Option<String>,
    /// Name of the port.
    #[arg(long, requires = "port")]
    pub port_name: Option<String>,
    /// Protocol.
    #[arg(long, value_enum, ignore_case = true, default_value_t = Protocol::Tcp)]
    pub protocol: Protocol,
    /// Type of the Service.
    #[arg(long = "type", value_enum, default_value_t = ServiceType::ClusterIp)]
    pub service_type: ServiceType,
    /// Address of the Service; `None` for a headless one, by default the cluster chooses.
    #[arg(long)]
    pub cluster_ip: Option<String>,
    /// Further address at which nodes take traffic for the Service.
    #[arg(long)]
    pub external_ip: Option<String>,
    /// Address families of the Service, the first one first.
    #[arg(long, value_enum, ignore_case = true)]
    pub ip_family: Option<Families>,
    /// How many address families the Service has.
    #[arg(long, value_enum, ignore_case = true)]
    pub ip_family_policy: Option<FamilyPolicy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    #[value(name = "TCP")]
    Tcp,
    #[value(name = "UDP")]
    Udp,
}

impl Protocol {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServiceType {
    #[value(name = "ClusterIP")]
    ClusterIp,
    #[value(name = "NodePort")]
    NodePort,
    #[value(name = "LoadBalancer")]
    LoadBalancer,
}

impl ServiceType {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Families {
    #[value(name = "IPv4")]
    V4,
    #[value(name = "IPv6")]
    V6,
    #[value(name = "IPv4,IPv6")]
    V4V6,
    #[value(name = "IPv6,IPv4")]
    V6V4,
}

impl Families {
    pub(crate) fn words(self) -> Vec<&'static str> {
        match self {
            Self::V4 => vec!["IPv4"],
            Self::V6 => vec!["IPv6"],
            Self::V4V6 => vec!["IPv4", "IPv6"],
            Self::V6V4 => vec!["IPv6", "IPv4"],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FamilyPolicy {
    #[value(name = "SingleStack")]
    Single,
    #[value(name = "PreferDualStack")]
    PreferDual,
    #[value(name = "RequireDualStack")]
    RequireDual,
}

impl FamilyPolicy {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Single => "SingleStack",
            Self::PreferDual => "PreferDualStack",
            Self::RequireDual => "RequireDualStack",
        }
    }
}
