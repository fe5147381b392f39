//! The guest's DHCP server: one client, one lease.

mod packet;
mod reply;
mod server;

pub(crate) use server::Server;
