//! A link flaps under a large table.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use support::{Lab, wait_until};

use super::LIMIT;
use super::fan::{Fan, Plan, check};

const ROUTES: u32 = 100_000;
/// 20.0.0.0, from which the table is made; all of it lies in `COVER`.
const FIRST: u32 = 20 << 24;
const COVER: &str = "20.0.0.0/7";
/// As for a small table: the same few entries change.
const LOSS: Duration = Duration::from_millis(400);

#[test]
fn a_link_that_flaps_under_a_hundred_thousand_routes_costs_no_more_than_under_one() {
    Lab::test(|lab| {
        let plan = Plan {
            more: (0..ROUTES).map(|n| format!("{}/24", network(n))).collect(),
            ..Plan::new(2)
        };
        let begin = Instant::now();
        let mut fan = Fan::start(lab, plan)?;
        // All of it is here.
        fan.far.ip([format!("route add local {COVER} dev lo")])?;
        let samples: Vec<String> = [0, ROUTES / 3, ROUTES / 2, ROUTES - 1]
            .into_iter()
            .map(|n| Ipv4Addr::from(u32::from(network(n)) + 77).to_string())
            .collect();
        let samples: Vec<&str> = samples.iter().map(String::as_str).collect();
        let wait_whole = |fan: &Fan| -> Result<()> {
            wait_until("the whole table", LIMIT, || {
                let status = fan.causeway.api("/v1/status")?;
                let routes = status["dataplane"]["routes"].as_u64().unwrap_or(0);
                ensure!(routes >= u64::from(ROUTES), "{routes} routes");
                Ok(())
            })?;
            let mut samples = samples.iter();
            samples.try_for_each(|sample| fan.wait_members_of(sample, 2))
        };
        wait_whole(&fan)?;
        println!("{ROUTES} routes by two ways after {:?}", begin.elapsed());

        let reports = fan.probe(&samples, |fan| {
            let begin = Instant::now();
            fan.cut(&[2])?;
            for sample in &samples {
                fan.wait_members_of(sample, 1)?;
            }
            println!("left after {:?}", begin.elapsed());
            std::thread::sleep(Duration::from_secs(1));
            Ok(())
        })?;
        check("a link cut under 100k routes", &reports, LOSS)?;

        let reports = fan.probe(&samples, |fan| {
            let begin = Instant::now();
            fan.mend(&[2])?;
            fan.wait_sessions()?;
            wait_whole(fan)?;
            println!("whole again after {:?}", begin.elapsed());
            Ok(())
        })?;
        check("mended", &reports, Duration::ZERO)
    });
}

fn network(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + (n << 8))
}
