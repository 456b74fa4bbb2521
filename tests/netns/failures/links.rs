//! Links are cut and mended, a neighbour falls silent, the daemon stands still: streams, members, and what is announced.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::Lab;
use support::peer::Implementation;
use support::traffic::ProbeReport;

use super::fan::{FLOWS, Fan, PREFIXES, Plan, SERVERS, check};
use super::{LIMIT, full};

/// A flow may be silent for so long when a link is cut: links are looked at every 100 ms, on a machine with other work. The
/// kernel tells of some only after a second.
const LOSS: Duration = Duration::from_millis(400);

#[test]
fn cut_links_take_only_their_own_flows_along_and_all_of_them_come_back() {
    Lab::test(|lab| {
        let mut fan = Fan::start(lab, Plan::new(8))?;
        let told = fan.told()?;
        let cases: [(&str, &[usize]); 2] = [("one cut", &[1]), ("four cut at once", &[2, 3, 5, 8])];
        for (what, links) in cases {
            let reports = fan.probe(&SERVERS, |fan| {
                fan.cut(links)?;
                fan.wait_members(8 - links.len())?;
                std::thread::sleep(Duration::from_millis(200));
                fan.mend(links)?;
                fan.wait_members(8)
            })?;
            check(what, &reports, LOSS)?;
            fan.wait_sessions()?;
        }
        let reports = fan.probe(&SERVERS, |fan| {
            let begin = Instant::now();
            fan.cut(&[4])?;
            std::thread::sleep(Duration::from_millis(200));
            fan.mend(&[4])?;
            fan.wait_members(8)?;
            println!("back after {:?}", begin.elapsed());
            std::thread::sleep(Duration::from_millis(700).saturating_sub(begin.elapsed()));
            fan.cut(&[4])?;
            println!("cut again after {:?}", begin.elapsed());
            fan.wait_members(7)?;
            fan.mend(&[4])?;
            fan.wait_members(8)
        })?;
        check("one cut twice within a second", &reports, LOSS)?;
        for report in &reports {
            let own = report.flows_hit * 2 < u64::from(FLOWS);
            ensure!(own, "flows of other links suffered: {report:?}");
        }
        fan.wait_sessions()?;
        fan.wait_all_answers()?;
        ensure!(
            fan.told()?.withdrawn == told.withdrawn,
            "a way was left, and still something was withdrawn: {:?} after {told:?}",
            fan.told()?
        );
        Ok(())
    });
}

#[test]
fn what_no_link_leads_to_is_withdrawn_and_announced_again() {
    Lab::test(|lab| {
        let plan = Plan {
            north: Implementation::Frr,
            ..Plan::new(2)
        };
        let mut fan = Fan::start(lab, plan)?;
        let mut dark = Duration::ZERO;
        let reports = fan.probe(&SERVERS, |fan| {
            let begin = Instant::now();
            fan.cut(&[1, 2])?;
            for prefix in PREFIXES {
                fan.north_peer.wait_no_route(prefix, LIMIT)?;
            }
            println!("withdrawn after {:?}", begin.elapsed());
            fan.mend(&[1, 2])?;
            for prefix in PREFIXES {
                fan.north_peer.wait_route(prefix, LIMIT)?;
            }
            // The routes of before count again until the sessions of before are found dead.
            fan.wait_sessions()?;
            fan.wait_members(2)?;
            dark = begin.elapsed();
            Ok(())
        })?;
        check("no link left", &reports, dark + LOSS)?;
        for report in &reports {
            ensure!(report.lost() > 0, "nothing was lost without a link");
        }
        fan.wait_all_answers()
    });
}

/// How long the kernel's own timers may take to give a neighbour up. It believes for up to 45 seconds and asks for another
/// 13; and what the neighbour acknowledged before counts anew when TCP next sends, which is a keepalive after a third of
/// the hold time.
const GIVEN_UP: Duration = Duration::from_secs(HOLD as u64 / 3 + 45 + 13);
const HOLD: u16 = 240;

/// Its end of the wire stays up: the switch between them is what broke. Only the neighbour table can tell, since the
/// session has four minutes.
#[test]
fn a_neighbour_that_stops_answering_is_left_and_taken_back() {
    Lab::test(|lab| {
        let plan = Plan {
            switched: true,
            hold_time: HOLD,
            impatient: !full(),
            ..Plan::new(4)
        };
        let mut fan = Fan::start(lab, plan)?;
        let told = fan.told()?;
        let switch = fan.switch.clone().context("there is a switch")?;
        let mut silent = Duration::ZERO;
        let reports = fan.probe(&SERVERS, |fan| {
            let begin = Instant::now();
            switch.ip(["link set far nomaster"])?;
            fan.wait_members_within(3, GIVEN_UP + LIMIT)?;
            silent = begin.elapsed();
            println!("left after {silent:?}");
            Ok(())
        })?;
        check("a silent neighbour", &reports, silent + LOSS)?;
        for report in &reports {
            only_some_silent(report)?;
        }
        let reports = fan.probe(&SERVERS, |fan| {
            std::thread::sleep(Duration::from_millis(300));
            switch.ip(["link set far master bridge0"])?;
            fan.wait_members(4)
        })?;
        check(
            "without it, and when it came back",
            &reports,
            Duration::ZERO,
        )?;
        ensure!(
            fan.told()?.withdrawn == told.withdrawn,
            "ways were left, and still something was withdrawn"
        );
        fan.wait_sessions()?;
        fan.wait_all_answers()
    });
}

/// Those of one of four links, whichever they are, and not the others'.
fn only_some_silent(report: &ProbeReport) -> Result<()> {
    let silent = report.flows_silent;
    ensure!(silent > 0, "nobody took the dead link: {report:?}");
    ensure!(
        silent * 4 < u64::from(FLOWS) * 3,
        "flows of other links suffered: {report:?}"
    );
    Ok(())
}

/// Nobody can note then that a link is dead: its flows are lost until the daemon goes on. All others are not, and no
/// session ends, because the stall is shorter than the hold time.
#[test]
fn a_daemon_that_stands_still_costs_only_the_flows_of_what_dies_meanwhile() {
    const STALL: Duration = Duration::from_secs(3);
    Lab::test(|lab| {
        let mut fan = Fan::start(lab, Plan::new(4))?;
        let told = fan.told()?;
        let ended = sessions_ended(&fan)?;
        let mut dark = Duration::ZERO;
        let reports = fan.probe(&SERVERS, |fan| {
            fan.causeway.process().freeze()?;
            let cut = Instant::now();
            fan.cut(&[2])?;
            std::thread::sleep(STALL);
            fan.causeway.process().thaw()?;
            let begin = Instant::now();
            fan.wait_members(3)?;
            println!("right again after {:?}", begin.elapsed());
            dark = cut.elapsed();
            Ok(())
        })?;
        check("the daemon stood still", &reports, dark + LOSS)?;
        for report in &reports {
            only_some_silent(report)?;
        }
        fan.mend(&[2])?;
        fan.wait_members(4)?;
        fan.wait_sessions()?;
        fan.wait_all_answers()?;
        ensure!(fan.told()?.withdrawn == told.withdrawn, "{told:?}");
        // The two sessions over the dead link.
        let since = sessions_ended(&fan)? - ended;
        ensure!(since <= 2, "{since} sessions ended");
        Ok(())
    });
}

/// Sessions that ended, by our own count.
fn sessions_ended(fan: &Fan) -> Result<u64> {
    let neighbors = fan.causeway.api("/v1/bgp/neighbors")?;
    let neighbors = neighbors
        .as_array()
        .or_else(|| neighbors["items"].as_array());
    let counts = neighbors.context("no listing")?.iter();
    Ok(counts
        .filter_map(|neighbor| neighbor["flapCount"].as_u64())
        .sum())
}
