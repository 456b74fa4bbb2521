//! Sessions with real routers, in namespaces. `matrix.md` says which peer is tested with which feature.
//!
//! `lab`: the routers among themselves, so that a failure below is not the lab's. `sessions` and `features`: one
//! scenario each for every peer. `operation`: what operators do and meet. `confederation`: a member AS between two other
//! parties. `hostile`: a peer that breaks the rules, byte by byte. `load`: a peer that asks for too much. `recordings`:
//! sessions are recorded and replayed. `refusals`: what the daemon says when it cannot start.

mod confederation;
mod features;
mod hostile;
mod lab;
mod load;
mod operation;
mod pair;
mod recordings;
mod refusals;
mod sessions;

#[test]
fn the_matrix_lists_every_scenario_and_peer() {
    let matrix = include_str!("matrix.md");
    let rows: Vec<Vec<&str>> = matrix
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .map(|line| {
            line.trim_end_matches('|')
                .split('|')
                .map(str::trim)
                .collect()
        })
        .collect();
    let peers: Vec<_> = support::peer::Implementation::ALL
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(rows[0][2..], peers);
    let listed: Vec<_> = rows[1..]
        .iter()
        .map(|row| row[0].trim_matches('`'))
        .collect();
    let run: Vec<_> = [
        sessions::SCENARIOS,
        features::SCENARIOS,
        operation::SCENARIOS,
        recordings::SCENARIOS,
    ]
    .concat();
    assert_eq!(listed, run);
    for row in &rows[1..] {
        assert_eq!(row.len(), 2 + peers.len(), "{row:?}");
        for cell in &row[2..] {
            let note = format!("\n{cell}. ");
            assert!(
                *cell == "yes" || matrix.contains(&note),
                "{row:?}: {cell} has no note"
            );
        }
    }
}
