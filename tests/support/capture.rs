//! What is on a wire, as tcpdump tells it.
//!
//! A frame that native XDP redirects is seen where it arrives and not on the router that sends it on.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::{Node, Process, wait_until};

/// A running capture.
pub struct Capture {
    process: Process,
}

impl Capture {
    /// Captures what passes `interface` and matches tcpdump's `filter`, from the time that this returns.
    pub fn start(node: &Node, interface: &str, filter: &str) -> Result<Self> {
        let mut command = node.command("tcpdump");
        // With link-level headers, verbose, by line, and as soon as a packet is there.
        command.args(["-e", "-nn", "-v", "-l", "--immediate-mode", "-i", interface]);
        command.args(filter.split_whitespace());
        let mut process = Process::start(node, &format!("tcpdump-{interface}"), command)?;
        wait_until("tcpdump to listen", Duration::from_secs(20), || {
            process.check_running()?;
            ensure!(process.log().contains("listening on"), "{}", process.log());
            Ok(())
        })?;
        Ok(Self { process })
    }

    /// What was seen so far: for each packet its lines, joined.
    #[must_use]
    pub fn packets(&self) -> Vec<String> {
        packets(&self.process.log())
    }

    /// Waits until a packet was seen that contains each of `parts`, and returns it.
    pub fn wait_packet(&self, parts: &[&str], limit: Duration) -> Result<String> {
        wait_until(&format!("a packet with {parts:?}"), limit, || {
            let mut packets = self.packets();
            let at = packets
                .iter()
                .position(|packet| parts.iter().all(|part| packet.contains(part)));
            match at {
                Some(at) => Ok(packets.swap_remove(at)),
                None => anyhow::bail!("{packets:#?}"),
            }
        })
    }

    /// Ends it and returns all that was seen.
    pub fn finish(mut self) -> Result<Vec<String>> {
        self.process.signal(Signal::SIGINT)?;
        wait_until("tcpdump to end", Duration::from_secs(10), || {
            ensure!(self.process.check_running().is_err(), "it still runs");
            Ok(())
        })?;
        Ok(self.packets())
    }
}

/// A packet begins with its time at the first column; what follows indented belongs to it.
fn packets(log: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in log.lines() {
        if line.starts_with(|c: char| c.is_ascii_digit()) && line.contains("ethertype") {
            packets.push(line.to_owned());
        } else if let (true, Some(packet)) = (line.starts_with([' ', '\t']), packets.last_mut()) {
            packet.push(' ');
            packet.push_str(line.trim());
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_packet_belong_together() {
        let log = "tcpdump: listening on eth0\n\
                   12:00:00.000001 02:00 > 02:01, ethertype IPv4 (0x0800), length 74: (tos 0xc0, ttl 255)\n    \
                   10.0.0.1.179 > 10.0.0.2.179: Flags [S]\n\
                   12:00:00.000002 02:00 > 02:01, ethertype IPv6 (0x86dd), length 94: (hlim 64)\n\
                   2 packets captured\n";
        let packets = packets(log);
        assert_eq!(packets.len(), 2);
        assert!(packets[0].contains("ttl 255") && packets[0].contains("Flags [S]"));
    }
}
