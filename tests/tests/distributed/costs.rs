//! What planning and running cost in CPU time: `cargo test --release -p toroid-tests --test distributed -- --ignored --nocapture costs`.

#![expect(clippy::print_stdout, reason = "what was measured is for the one who asked")]

use super::cluster::Cluster;

/// CPU time of this process so far, in ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Runs `f` until enough CPU time has passed for the ticks not to matter.
fn measure<T>(what: &str, mut f: impl FnMut() -> T) {
    f();
    let (before, mut times) = (ticks(), 0);
    while ticks() - before < 50 {
        f();
        times += 1;
    }
    println!("{what}: {:.3} ms", (ticks() - before) as f64 * 10.0 / f64::from(times));
}

#[test]
#[ignore = "a measurement"]
fn costs() {
    let mut cluster = Cluster::new(3);
    cluster.run("create table acc (aid int primary key, bid int, abalance int, filler char(84))").unwrap();
    cluster.run("create table br (bid int primary key, bbalance int) with (replicated)").unwrap();
    cluster.run("insert into br select i, i from generate_series(1, 10) i").unwrap();
    cluster.run("insert into acc select i, i % 10 + 1, i % 1000, 'x' from generate_series(1, 1000000) i").unwrap();
    cluster.keep_batches();
    for query in [
        "select count(*), sum(abalance) from acc",
        "select bid, count(*), sum(abalance) from acc group by bid",
        "select count(*) from acc where abalance = 7",
        "select aid from acc order by abalance desc, aid limit 10",
        "select br.bid, sum(abalance) from acc join br on br.bid = acc.bid group by br.bid",
        "select count(*) from acc a join acc b on a.aid = b.aid",
        "select avg(abalance + 1), max(aid * 2::bigint) from acc",
    ] {
        println!("-- {query}");
        measure("  plan", || cluster.explain(query));
        measure("  all", || cluster.run(query).unwrap());
    }
}
