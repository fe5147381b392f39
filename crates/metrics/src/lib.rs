//! Metrics: what each is called and means ([`catalogue`]), samples made of a snapshot of facts ([`Samples`]), counters that live as
//! long as the process ([`live`]), and the text that Prometheus reads ([`text`]).
//!
//! Library: `prometheus`. Upstream's names must be kept to the letter, and some are counters that do not end in `_total`, which the
//! OpenMetrics encoder of `prometheus-client` cannot write; the recorder of `metrics` keeps every series it was ever told of, while
//! most of ours are facts that are looked up at the scrape and are gone with their machine.

pub mod catalogue;
mod definition;
mod labels;
pub mod live;
mod samples;
pub mod text;

pub use definition::{Definition, Kind, Program};
pub use labels::vmi_labels;
pub use samples::Samples;
