//! Whether listeners heard each notification of a committed transaction once, in one order, and none of others; and were told where they missed one.

use super::super::history::History;
use super::super::history::notices::{Ear, Said, Told};
use super::super::history::transaction::Fate;
use std::collections::{BTreeMap, BTreeSet};
use toroid_common::id::PartitionId;

/// A partition keeps about so many bytes of notifications.
const KEPT_BYTES: usize = 4 << 20;
/// What one takes there beside its texts.
const NOTICE_BYTES: usize = 128;

/// What is known of a notification in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    Yes,
    No,
    Maybe,
}

/// A notification with when it was sent, at the earliest and at the latest.
#[derive(Clone, Copy, Debug)]
struct Sent {
    said: Said,
    happened: Happened,
    from: u64,
    /// It is numbered by then; nobody knows when that is of a transaction.
    until: u64,
    /// Its number in its partition, where somebody heard it.
    number: Option<u64>,
}

/// What is wrong, if anything.
pub fn judge(history: &History) -> Result<(), String> {
    let mut sent: BTreeMap<u64, Sent> =
        history.notices.said.iter().map(|said| (said.payload, outcome(*said, history))).collect();
    for ear in &history.notices.ears {
        hears(ear, &mut sent, history)?;
    }
    // One that was heard of a transaction stands for all of it, but what never heard its outcome.
    let heard: BTreeSet<usize> =
        sent.values().filter(|it| it.number.is_some()).filter_map(|it| Some(it.said.within?.0)).collect();
    for it in sent.values_mut().filter(|it| it.happened == Happened::Maybe) {
        let told = |number| heard.contains(&number) && !history.is_forsaken(number, it.said.partition);
        let of_heard = it.said.within.is_some_and(|(number, _)| told(number));
        if of_heard || it.number.is_some() {
            it.happened = Happened::Yes;
        }
    }
    in_order(&sent, history)?;
    history.notices.ears.iter().try_for_each(|ear| complete(ear, &sent, history))
}

fn outcome(said: Said, history: &History) -> Sent {
    let told = match said.told {
        Told::Done => Happened::Yes,
        Told::Never => Happened::No,
        Told::Unknown => Happened::Maybe,
    };
    let it = said.within.and_then(|(number, statement)| Some((number, history.transactions.get(number)?, statement)));
    let (happened, from, until) = match it {
        None => (told, said.began, said.ended),
        Some((number, it, statement)) => {
            let undone = it.statements.get(statement).is_none_or(|statement| statement.undone.is_some());
            let happened = match it.fate {
                _ if undone || told != Happened::Yes => Happened::No,
                Fate::Committed if history.is_forsaken(number, said.partition) => Happened::Maybe,
                Fate::Committed => Happened::Yes,
                Fate::Aborted => Happened::No,
                Fate::Unknown => Happened::Maybe,
            };
            // Where it took several partitions its client may be told before the one of the channel is.
            (happened, it.asked, u64::MAX)
        }
    };
    Sent { said, happened, from, until, number: None }
}

/// Whether a partition began again, which numbers its notifications anew.
fn began_again(partition: PartitionId, history: &History) -> Option<u64> {
    history.emptied.iter().filter(|emptied| emptied.partition == partition).map(|emptied| emptied.at).max()
}

/// What one heard was sent, after it began to listen, and comes once and in order.
fn hears(ear: &Ear, sent: &mut BTreeMap<u64, Sent>, history: &History) -> Result<(), String> {
    let mut last = 0;
    let again = began_again(ear.partition, history).is_some();
    for (payload, number) in &ear.heard {
        let known = sent.get_mut(payload).filter(|it| it.said.channel == ear.channel);
        let Some(it) = known else { return Err(format!("{payload} was heard, which nobody said: {ear:?}")) };
        if it.happened == Happened::No {
            return Err(format!("{it:?} never happened, and was heard: {ear:?}"));
        }
        if it.until < ear.asked {
            return Err(format!("{it:?} was over before it was listened to: {ear:?}"));
        }
        if *number <= last {
            return Err(format!("number {number} came after number {last}: {ear:?}"));
        }
        if it.number.is_some_and(|known| known != *number) && !again {
            return Err(format!("{it:?} was heard as number {number}: {ear:?}"));
        }
        (last, it.number) = (*number, Some(*number));
    }
    Ok(())
}

/// Of one channel, what was over before another began has the lower number.
fn in_order(sent: &BTreeMap<u64, Sent>, history: &History) -> Result<(), String> {
    let numbered: Vec<(u64, &Sent)> = sent.values().filter_map(|it| Some((it.number?, it))).collect();
    for (number, one) in &numbered {
        let later =
            |(other, it): &&(u64, &Sent)| it.said.channel == one.said.channel && one.until < it.from && other < number;
        if let Some((_, other)) = numbered.iter().find(later)
            && began_again(one.said.partition, history).is_none()
        {
            return Err(format!("{one:?} was over before {other:?}, which was heard first"));
        }
    }
    Ok(())
}

/// Who listens to the end hears all that happened since, who stopped all up to the last that it heard; or it is told that it missed something.
fn complete(ear: &Ear, sent: &BTreeMap<u64, Sent>, history: &History) -> Result<(), String> {
    let again = began_again(ear.partition, history);
    if ear.missed {
        let there = sent.values().filter(|it| it.said.partition == ear.partition);
        let bytes: usize = there.map(|it| it.said.bytes + NOTICE_BYTES).sum();
        return match again.is_some() || bytes > KEPT_BYTES {
            true => Ok(()),
            false => Err(format!("it was told that it missed something, though all was kept: {ear:?}")),
        };
    }
    let heard: BTreeSet<u64> = ear.heard.iter().map(|(payload, _)| *payload).collect();
    let last = ear.heard.last().map_or(0, |(_, number)| *number);
    let due = |it: &&Sent| {
        let news = it.said.channel == ear.channel && it.happened == Happened::Yes && it.from > ear.began;
        let passed = it.number.is_some_and(|number| number < last) && again.is_none();
        news && (ear.ended == u64::MAX || passed)
    };
    match sent.values().filter(due).find(|it| !heard.contains(&it.said.payload)) {
        Some(it) => Err(format!("{it:?} was never heard: {ear:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toroid_common::id::Incarnation;
    use toroid_common::transaction::Level;

    const HERE: PartitionId = PartitionId(0);

    fn say(history: &mut History, payload: u64) {
        let said = history.say((1, payload, 3), HERE, None);
        history.said(said, Told::Done);
    }

    fn listen(history: &mut History) -> usize {
        let asked = history.stamp();
        history.listen(Incarnation(1), 1, HERE, asked)
    }

    fn heard(said: &[u64], heard: &[(u64, u64)], missed: Option<bool>) -> bool {
        let mut history = History::default();
        say(&mut history, 1);
        let ear = listen(&mut history);
        said.iter().for_each(|payload| say(&mut history, *payload));
        heard.iter().for_each(|(payload, number)| history.hear(ear, *payload, *number));
        missed.into_iter().for_each(|missed| history.deafen(ear, missed));
        judge(&history).is_ok()
    }

    #[test]
    fn what_is_said_is_heard_once_and_in_order() {
        assert!(heard(&[2, 3], &[(2, 2), (3, 3)], None));
        assert!(heard(&[2, 3], &[(2, 2)], Some(false)), "it stopped listening");
        let wrong: [&[(u64, u64)]; 6] = [
            &[(2, 2)],
            &[(3, 3)],
            &[(2, 2), (2, 3), (3, 4)],
            &[(3, 2), (2, 3)],
            &[(1, 1), (2, 2), (3, 3)],
            &[(2, 2), (3, 3), (4, 4)],
        ];
        for heard_so in wrong {
            assert!(!heard(&[2, 3], heard_so, None), "{heard_so:?}");
        }
        assert!(!heard(&[2], &[], Some(true)), "nothing was missed");
    }

    #[test]
    fn a_gap_before_the_last_is_one_even_for_who_stopped() {
        let mut history = History::default();
        let (one, other) = (listen(&mut history), listen(&mut history));
        say(&mut history, 2);
        say(&mut history, 3);
        [(2, 1), (3, 2)].iter().for_each(|(payload, number)| history.hear(one, *payload, *number));
        history.hear(other, 3, 2);
        history.deafen(other, false);
        assert!(judge(&history).is_err());
    }

    #[test]
    fn a_transaction_is_heard_if_it_is_committed() {
        for (fate, hears, fine) in [
            (Fate::Committed, true, true),
            (Fate::Committed, false, false),
            (Fate::Aborted, true, false),
            (Fate::Aborted, false, true),
            (Fate::Unknown, true, false),
            (Fate::Unknown, false, true),
        ] {
            let mut history = History::default();
            let ear = listen(&mut history);
            let number = history.begin_transaction(Level::ReadCommitted);
            for payload in [2, 3] {
                history.begin_statement(number, Vec::new());
                let said = history.say((1, payload, 3), HERE, Some(number));
                history.said(said, Told::Done);
            }
            history.ask(number);
            history.end_transaction(number, fate);
            if hears {
                history.hear(ear, 2, 1);
                // Half of one of which nobody was told is too little.
                if fate != Fate::Unknown {
                    history.hear(ear, 3, 2);
                }
            }
            assert_eq!(judge(&history).is_ok(), fine, "{fate:?} {hears}");
        }
    }
}
