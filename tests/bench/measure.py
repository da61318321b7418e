"""Measures one server for tests/bench/run, and reports two measurements side by side."""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

# Ratio of CPU per transaction, Toroid to PostgreSQL, that is aimed at.
TARGETS = {
    "simple": 0.6, "extended": 0.5, "prepared": 0.8, "insert": 0.8, "update": 0.8, "count": 0.3, "copy": 1.5,
    "tpcb": 1.0, "tpcb-N": 0.9, "transfer": 1.0,
}
BYTES_PER_ROW = 100
# The 99th percentile of a latency beside other load, to the one alone.
LATENCY_TARGET = 2.0

INSERT = r"""
\set n :n + 1
\set id :client_id * 100000000 + :n
INSERT INTO bench_insert VALUES (:id, :n, 'some twenty characters');
"""
UPDATE = r"""
\set aid random(1, 100000 * :scale)
\set delta random(-5000, 5000)
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
"""
# Two rows, mostly in different partitions, in one round trip; in the order of their keys, so that transfers do not wait in circles.
TRANSFER = r"""
\set a random(1, 100000 * :scale)
\set b random(1, 100000 * :scale)
\set low least(:a, :b)
\set high greatest(:a, :b)
\set delta random(-100, 100)
\startpipeline
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance - :delta WHERE aid = :low;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :high;
COMMIT;
\endpipeline
"""
FEW = "SELECT count(*) FROM pgbench_branches;\n"
BALANCES = """SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"""
COUNT = "SELECT count(*), sum(abalance) FROM pgbench_accounts;\n"


def stat(pid):
    """Parent and CPU seconds (own and of reaped children) of a process, or None when it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), sum(int(ticks) for ticks in fields[11:15]) / TICK


def cpu(pid):
    """CPU seconds of a server: its process, its living children, and those it has reaped."""
    total = stat(pid)[1]
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (seen := stat(entry)) and seen[0] == pid:
            total += seen[1]
    return total


def settled_cpu(pid):
    """CPU seconds once those of ended children have reached their parent: two readings nearly alike, a while apart."""
    for _ in range(10):
        before = cpu(pid)
        time.sleep(0.3)
        if abs(cpu(pid) - before) <= 2 / TICK:
            break
    return cpu(pid)


def rss(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


class Bench:
    def __init__(self, options):
        self.options = options
        self.place = ["-h", "127.0.0.1", "-p", str(options.port)]
        self.results = {}
        self.only = [name for name in options.only.split(",") if name]

    def wanted(self, name):
        return not self.only or name in self.only

    def psql(self, *commands):
        arguments = [argument for command in commands for argument in ("-c", command)]
        run = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *self.place, "-d", self.options.database, *arguments]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)

    def pgbench(self, *arguments):
        run = ["pgbench", *self.place, *arguments, self.options.database]
        done = subprocess.run(run, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(run)} failed:\n{done.stderr[-2000:]}")
        return done.stdout + done.stderr

    def record(self, name, before, start, count):
        seconds = time.monotonic() - start
        used = settled_cpu(self.options.pid) - before
        self.results[name] = {"rate": count / seconds, "cpu": used / count * 1e6}
        print(f"  {self.options.server:9} {name:14} {count / seconds:12,.0f}/s {used / count * 1e6:12,.2f} µs CPU", flush=True)

    def transactions(self, name, *arguments):
        before, start = settled_cpu(self.options.pid), time.monotonic()
        output = self.pgbench("-n", *arguments)
        count = int(re.search(r"actually processed: (\d+)", output)[1])
        self.record(name, before, start, count)

    def percentile(self, name, *arguments):
        """The 99th percentile of a load's latency in milliseconds."""
        prefix = pathlib.Path(self.options.work) / f"{self.options.server}-{name}"
        self.pgbench("-n", "-l", f"--log-prefix={prefix}", *arguments)
        logs = list(prefix.parent.glob(f"{prefix.name}.*"))
        latencies = sorted(int(line.split()[2]) for log in logs for line in log.read_text().splitlines())
        for log in logs:
            log.unlink()
        return latencies[len(latencies) * 99 // 100] / 1000

    def latency(self, name, measured, beside):
        """A load's latency alone, and beside another load."""
        alone = self.percentile(name, *measured)
        run = ["pgbench", "-n", *self.place, *beside, "-T", "3600", self.options.database]
        other = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            together = self.percentile(name, *measured)
        finally:
            other.terminate()
            other.wait()
        self.results[name] = {"alone": alone, "beside": together}
        print(f"  {self.options.server:9} {name:14} 99 % {alone:8.2f} ms alone, {together:8.2f} ms beside", flush=True)

    def balances(self):
        """TPC-B's invariant: what accounts, tellers, branches and history say about all deltas is the same."""
        run = ["psql", "-X", "-At", *self.place, "-d", self.options.database, "-c", BALANCES]
        sums = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip().split("|")
        if len(set(sums)) != 1:
            sys.exit(f"{self.options.server}: the balances differ: {sums}")

    def script(self, name, text):
        path = pathlib.Path(self.options.work) / f"{name}.sql"
        path.write_text(text)
        return str(path)

    def run(self):
        options = self.options
        before = rss(options.pid)
        self.pgbench("-i", "-q", "-s", str(options.scale))
        time.sleep(3)
        rows = options.scale * 100_000
        self.results["memory"] = {"bytes": (rss(options.pid) - before) / (rows * options.copies)}
        duration = ["-T", str(options.seconds)]
        for clients in options.clients.split():
            load = ["-c", clients, "-j", "2", *duration]
            for mode in ("simple", "extended", "prepared"):
                if self.wanted(mode):
                    self.transactions(f"{mode} c{clients}", "-S", "-M", mode, *load)
            if self.wanted("insert"):
                self.psql("DROP TABLE IF EXISTS bench_insert", "CREATE TABLE bench_insert (id bigint PRIMARY KEY, n int, t text)")
                self.transactions(f"insert c{clients}", "-M", "prepared", "-D", "n=0", "-f", self.script("insert", INSERT), *load)
            if self.wanted("update"):
                script = self.script("update", UPDATE)
                self.transactions(f"update c{clients}", "-M", "prepared", "-D", f"scale={options.scale}", "-f", script, *load)
            if self.wanted("tpcb") or self.wanted("tpcb-N"):
                self.psql("UPDATE pgbench_accounts SET abalance = 0 WHERE abalance <> 0")
                self.psql("UPDATE pgbench_tellers SET tbalance = 0", "UPDATE pgbench_branches SET bbalance = 0", "TRUNCATE pgbench_history")
            if self.wanted("tpcb"):
                self.transactions(f"tpcb c{clients}", "-M", "prepared", "--max-tries=10", *load)
                self.balances()
            if self.wanted("tpcb-N"):
                self.transactions(f"tpcb-N c{clients}", "-N", "-M", "prepared", "--max-tries=10", *load)
            if self.wanted("transfer"):
                script = self.script("transfer", TRANSFER)
                self.transactions(f"transfer c{clients}", "-M", "prepared", "-D", f"scale={options.scale}", "-f", script, "--max-tries=10", *load)
        if self.wanted("latency"):
            update = ["-M", "prepared", "-D", f"scale={options.scale}", "-f", self.script("update", UPDATE)]
            self.latency("count-p99", ["-c", "1", "-t", "100", "-f", self.script("count", COUNT)], ["-c", "4", "-R", "1000", *update])
            few = ["-c", "2", "-R", "200", "-f", self.script("few", FEW)]
            self.latency("update-p99", ["-c", "4", "-R", "1000", *update, *duration], few)
        if self.wanted("count"):
            self.transactions("count", "-t", "30", "-f", self.script("count", COUNT))
        if self.wanted("copy"):
            self.copy()
        pathlib.Path(options.out).write_text(json.dumps(self.results))

    def copy(self):
        data = pathlib.Path(self.options.work) / "copy.tsv"
        if not data.exists():
            with data.open("w") as file:
                for row in range(self.options.rows):
                    file.write(f"{row}\t{row * 7 % 1000}\tsome twenty characters {row % 97}\n")
        self.psql("DROP TABLE IF EXISTS bench_copy", "CREATE TABLE bench_copy (id bigint PRIMARY KEY, n int, t text)")
        before, start = settled_cpu(self.options.pid), time.monotonic()
        self.psql(f"\\copy bench_copy FROM '{data}'")
        self.record("copy", before, start, self.options.rows)


def report(work):
    read = lambda name: json.loads(path.read_text()) if (path := pathlib.Path(work) / f"{name}.json").exists() else {}
    postgres, toroid = read("postgres"), read("toroid")
    print(f"\n{'':14} {'PostgreSQL 15':>29} {'Toroid':>29} {'ratio':>7} {'target':>7}")
    print(f"{'':14} {'per s':>14} {'CPU µs each':>14} {'per s':>14} {'CPU µs each':>14} {'of CPU':>7}")
    for name, got in toroid.items():
        if name == "memory":
            continue
        if "beside" in got:
            ratio = got["beside"] / got["alone"]
            verdict = "met" if ratio <= LATENCY_TARGET else "not met"
            print(f"{name:14} 99 % {got['alone']:.2f} ms alone, {got['beside']:.2f} ms beside other load: ratio {ratio:.2f}, target {LATENCY_TARGET}  {verdict}")
            continue
        target = TARGETS[name.split()[0]]
        line = f"{name:14} "
        if name in postgres:
            ratio = got["cpu"] / postgres[name]["cpu"]
            line += f"{postgres[name]['rate']:14,.0f} {postgres[name]['cpu']:14,.2f} {got['rate']:14,.0f} {got['cpu']:14,.2f} {ratio:7.2f} {target:7.2f}"
            line += "  met" if ratio <= target else "  not met"
        else:
            line += f"{'':14} {'':14} {got['rate']:14,.0f} {got['cpu']:14,.2f}"
        print(line)
    memory = toroid["memory"]["bytes"]
    verdict = "met" if memory <= BYTES_PER_ROW else "not met"
    print(f"memory: {memory:.0f} bytes per pgbench_accounts row and copy, target {BYTES_PER_ROW}  {verdict}")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    for name in ("server", "database", "clients", "only", "work", "out"):
        run.add_argument(f"--{name}", required=True)
    for name in ("pid", "port", "scale", "seconds", "rows", "copies"):
        run.add_argument(f"--{name}", required=True, type=int)
    commands.add_parser("report").add_argument("work")
    options = parser.parse_args()
    if options.command == "run":
        Bench(options).run()
    else:
        report(options.work)


if __name__ == "__main__":
    main()
