//! What there is to say about a metric.

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// Names of its labels, in the order in which samples give their values.
    pub labels: &'static [&'static str],
    pub help: &'static str,
    /// Who serves it; in embedded mode `ferrovirt` does.
    pub programs: &'static [Program],
}

/// Prometheus' types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// Prometheus' word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A program that serves metrics on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Api,
    Controller,
    Handler,
    Operator,
}

impl Program {
    pub const ALL: &[Self] = &[Self::Api, Self::Controller, Self::Handler, Self::Operator];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "virt-api",
            Self::Controller => "virt-controller",
            Self::Handler => "virt-handler",
            Self::Operator => "virt-operator",
        }
    }
}

/// Makes constants of definitions, and the list of all of them.
macro_rules! definitions {
    ($programs:expr; $($constant:ident: $kind:ident $name:literal $labels:expr, $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $constant: crate::Definition = crate::Definition {
                name: $name,
                kind: crate::Kind::$kind,
                labels: $labels,
                help: $help,
                programs: $programs,
            };
        )+
        pub(in crate::catalogue) const ALL: &[&crate::Definition] = &[$(&$constant),+];
    };
}
pub(crate) use definitions;
