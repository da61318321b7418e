//! What runs at the workers and what merges at the proxy.

use super::cluster::Cluster;

fn cluster() -> Cluster {
    let mut cluster = Cluster::new(3);
    for statement in [
        "create table a (id int primary key, g int, b bigint, n numeric)",
        "create table l (aid bigint, k int, v int, primary key (aid, k)) with (distribute_by = 'aid')",
        "create table r (id int primary key, name text) with (replicated)",
    ] {
        cluster.run(statement).unwrap();
    }
    cluster
}

#[test]
fn fragments_are_cut_as_written_down() {
    let cluster = cluster();
    let mut text = String::new();
    for query in [
        "select count(*), sum(g) from a",
        "select g, count(*) from a group by g",
        "select aid, sum(v) from l group by aid",
        "select id from a order by b desc limit 3",
        "select id from a limit 3 offset 1",
        "select a.g, l.v from a join l on a.id = l.aid",
        "select a.g, l.v from a join l on a.g = l.k",
        "select r.name, sum(a.b) from a join r on r.id = a.g group by r.name",
        "select r.name, a.b from a left join r on r.id = a.g",
        "select count(*) from r",
        "select g from a where id = 5",
        "select a.g, l.v from a join l on a.id = l.aid where a.id = 5",
        "select a.g from a where exists (select 1 from l where l.aid = a.id)",
        "select n, count(*) from a group by n",
    ] {
        text += &format!("-- {query}\n{}\n\n", cluster.explain(query).join("\n"));
    }
    assert!(text == include_str!("plans.txt"), "plans.txt should be:\n{text}");
}
