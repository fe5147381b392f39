use proptest::prelude::*;

use super::*;

const WALL: &str = "2026-01-01T00:00:00Z";

fn wall() -> Timestamp {
    WALL.parse().unwrap()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn candidate(name: &str) -> Election {
    Election::new(name.to_owned(), Timing::default())
}

fn write(attempt: Attempt) -> Claim {
    match attempt {
        Attempt::Write(claim) => claim,
        Attempt::Standby => panic!("it stands by"),
    }
}

#[test]
fn a_free_lease_is_taken_and_a_held_one_only_after_it_did_not_change_for_its_duration() {
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    a.observe(None, secs(0));
    let claim = write(a.attempt(secs(0), wall()));
    assert_eq!((claim.holder.as_str(), claim.transitions), ("a", 0));
    a.won(claim.clone(), secs(0));
    assert!(a.leads(secs(9)) && !a.leads(secs(10)), "until the renew deadline");
    // It matters when the candidate saw it first, not when it was written.
    b.observe(Some(claim.clone()), secs(1000));
    b.observe(Some(claim.clone()), secs(1014));
    assert_eq!(b.attempt(secs(1014), wall()), Attempt::Standby);
    let renewed = write(a.attempt(secs(2), wall()));
    assert_eq!((renewed.acquired, renewed.transitions), (claim.acquired, 0));
    assert_ne!(renewed, claim, "a renewal shows even if the clock stands still");
    b.observe(Some(renewed), secs(1014));
    assert_eq!(b.attempt(secs(1028), wall()), Attempt::Standby);
    let taken = write(b.attempt(secs(1029), wall()));
    assert_eq!((taken.holder.as_str(), taken.transitions), ("b", 1));
}

#[test]
fn a_lease_given_back_is_free_at_once() {
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    assert_eq!(a.release(wall()), None);
    let claim = write(a.attempt(secs(0), wall()));
    a.won(claim.clone(), secs(0));
    b.observe(Some(claim), secs(0));
    b.observe(a.release(wall()), secs(1));
    assert_eq!(write(b.attempt(secs(1), wall())).holder, "b");
}

#[test]
fn a_leader_that_sees_another_or_no_holder_stops_at_once() {
    for other in [None, Some(Claim { holder: "b".into(), ..write(candidate("b").attempt(secs(0), wall())) })] {
        let mut a = candidate("a");
        a.won(write(a.attempt(secs(0), wall())), secs(0));
        a.observe(other, secs(1));
        assert!(!a.leads(secs(1)));
    }
}

/// What the network does to the next request, in tenths of a second.
#[derive(Clone, Copy, Debug)]
struct Fate {
    there: u64,
    back: u64,
    lost: bool,
    unanswered: bool,
}

#[derive(Clone, Debug)]
enum Doing {
    Waiting {
        until: u64,
    },
    Reading {
        at: u64,
        answer_at: u64,
        answer: Option<Option<(u64, Claim)>>,
        fate: Fate,
    },
    Writing {
        at: u64,
        answer_at: u64,
        sent: Duration,
        version: Option<u64>,
        claim: Claim,
        done: Option<bool>,
        fate: Fate,
    },
}

struct Node {
    election: Election,
    /// Its clocks: an offset, and a speed in per cent.
    skew_seconds: i64,
    speed: u64,
    frozen: Vec<(u64, u64)>,
    version: Option<u64>,
    doing: Doing,
}

impl Node {
    fn now(&self, tick: u64) -> Duration {
        Duration::from_millis(tick * self.speed)
    }

    fn wall(&self, tick: u64) -> Timestamp {
        wall() + SignedDuration::from_secs(self.skew_seconds) + SignedDuration::try_from(self.now(tick)).unwrap()
    }

    fn step(&mut self, tick: u64, server: &mut Option<(u64, Claim)>, fates: &mut impl Iterator<Item = Fate>) {
        let now = self.now(tick);
        // What the server does happens whether the node is awake or not.
        match &mut self.doing {
            Doing::Reading { at, answer, .. } if *at == tick => *answer = Some(server.clone()),
            Doing::Writing { at, version, claim, done, fate, .. } if *at == tick => {
                let fits = server.as_ref().map(|(v, _)| *v) == *version && !fate.lost;
                if fits {
                    *server = Some((version.unwrap_or(0) + 1, claim.clone()));
                }
                *done = Some(fits);
            }
            _ => {}
        }
        if self.frozen.iter().any(|(from, to)| (*from..*to).contains(&tick)) {
            return;
        }
        let retry = Doing::Waiting { until: tick + 20 };
        match self.doing.clone() {
            Doing::Waiting { until } if tick >= until => {
                let fate = fates.next().unwrap();
                let at = tick + fate.there + 1;
                self.doing = Doing::Reading { at, answer_at: at + fate.back, answer: None, fate };
            }
            Doing::Reading { answer_at, answer, fate, .. } if tick >= answer_at => match answer {
                Some(answer) if !fate.unanswered && !fate.lost => {
                    self.version = answer.as_ref().map(|(v, _)| *v);
                    self.election.observe(answer.map(|(_, claim)| claim), now);
                    self.doing = match self.election.attempt(now, self.wall(tick)) {
                        Attempt::Standby => retry,
                        Attempt::Write(claim) => {
                            let fate = fates.next().unwrap();
                            let at = tick + fate.there + 1;
                            let (version, answer_at) = (self.version, at + fate.back);
                            Doing::Writing { at, answer_at, sent: now, version, claim, done: None, fate }
                        }
                    };
                }
                _ => self.doing = retry,
            },
            Doing::Writing { answer_at, sent, claim, done, fate, .. } if tick >= answer_at => {
                if done == Some(true) && !fate.unanswered {
                    self.election.won(claim, sent);
                }
                self.doing = retry;
            }
            _ => {}
        }
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    let delay = || prop_oneof![6 => 0..3u64, 1 => 0..60u64, 1 => 80..200u64];
    (delay(), delay(), prop::bool::weighted(0.1), prop::bool::weighted(0.1))
        .prop_map(|(there, back, lost, unanswered)| Fate { there, back, lost, unanswered })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn there_are_never_two_leaders_and_one_is_found_again(
        skews in prop::array::uniform2(-100_000i64..100_000),
        speeds in prop::array::uniform2(90u64..110),
        frozen in prop::array::uniform2(prop::collection::vec((0u64..2000, 0u64..400), 0..4)),
        fates in prop::collection::vec(fate(), 24),
    ) {
        let mut server = None;
        let calm = Fate { there: 0, back: 0, lost: false, unanswered: false };
        let mut fates = fates.into_iter().chain(std::iter::repeat(calm));
        let mut nodes: Vec<Node> = (0..2)
            .map(|n| Node {
                election: candidate(&format!("n{n}")),
                skew_seconds: skews[n],
                speed: speeds[n],
                frozen: frozen[n].iter().map(|(from, length)| (*from, from + length)).collect(),
                version: None,
                doing: Doing::Waiting { until: n as u64 },
            })
            .collect();
        for tick in 0..12_000 {
            for node in &mut nodes {
                node.step(tick, &mut server, &mut fates);
            }
            let leaders = nodes.iter().filter(|node| node.election.leads(node.now(tick))).count();
            prop_assert!(leaders <= 1, "two leaders at tick {tick}");
        }
        let leaders = nodes.iter().filter(|node| node.election.leads(node.now(11_999))).count();
        prop_assert_eq!(leaders, 1, "one leads once the network is calm");
    }
}
