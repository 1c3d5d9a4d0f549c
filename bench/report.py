"""bench/RESULTS.md and bench/results.svg, from what the profiles have measured."""

import math
import statistics

HEAD = """# Side by side

Written by `bench/run`. A cell: operations per second, latency (p50 / p99 / p99.9 where known), CPU seconds of all server processes for
100,000 operations; medians of the rounds. A ratio is that of the operations per second, ours (first column) to theirs: the median of the
rounds' own ratios, and the least and the greatest. Above 1: ours is faster. Values of 100 bytes and 10,000 keys unless said otherwise.
Client and servers share the cores: compare ratios and CPU seconds, not absolute numbers with other machines.

- **cotidal**: every write on the disks of a majority before the answer; reads linearizable. Clients spread over all nodes.
- **Redis**: `appendfsync always`. With three nodes one primary and two replicas, all three flush always; all clients on the primary.
  SET + WAIT 1 answers when one replica has the write; even then a failover may lose it, so it is weaker than a majority commit. GET asks the
  primary, which does not check whether it still is one.
- **etcd**: its v3 API over gRPC, as its own clients speak it (bench/etcd_load.c); default settings; reads linearizable, right after the
  writes. Clients spread over all nodes.
- **the floor**: three processes that only read, flush on two of three disks and answer, batch by batch (bench/floor.c): no consensus, no table,
  no parser. What is durable on two of three nodes can hardly be faster here.
"""


def median(runs, key):
    return statistics.median(r[key] for r in runs)


def ratios(ours, theirs):
    return [a["per_second"] / max(b["per_second"], 1e-9) for a, b in zip(ours, theirs)]


def cell(runs):
    times = [median(runs, k) / 1000 for k in ("p50_us", "p99_us", "p99_9_us") if k in runs[0]]
    failed = sum(r["errors"] for r in runs)
    return (f"{median(runs, 'per_second'):,.0f} /s, {' / '.join(f'{t:.2f}' for t in times)} ms, {median(runs, 'cpu'):.2f} s"
            + (f", **{failed} errors**" if failed else ""))


def table(part):
    columns, others = part["columns"], part["others"]
    lines = [f"| {part['variable']} | " + " | ".join(columns) + " | " + " | ".join(f"ours / {columns[i]}" for i in others) + " |",
             "|---:|" + "---|" * len(columns) + "---:|" * len(others)]
    for row in part["rows"]:
        cells = [cell(runs) for runs in row["runs"]]
        for i in others:
            r = ratios(row["runs"][0], row["runs"][i])
            cells.append(f"**{statistics.median(r):.2f}** ({min(r):.2f}-{max(r):.2f})")
        lines.append(f"| {row['value']:,} | " + " | ".join(cells) + " |")
    return lines


def restart(part):
    lines = ["| keys of 100 B | system | seconds: median (least-greatest) | memory of its own before |", "|---:|---|---|---:|"]
    for r in part["rows"]:
        s = r["seconds"]
        lines.append(f"| {r['keys']:,} | {r['name']} | {statistics.median(s):.2f} ({min(s):.2f}-{max(s):.2f}) | {r['memory_mib']:,.0f} MiB |")
    return lines


def failover(part):
    p = part["pauses_ms"]
    return [f"The longest time without a successful write, under 200 writes a second from 20 clients on the other nodes: "
            f"{statistics.median(p):.0f} ms (median of {len(p)}; {min(p):.0f}-{max(p):.0f}). Requests that saw an error: {part['errors']}."]


def snapshot(part):
    lines = ["300 writes a second from 50 clients, times from when each was due, in ms.", "", "| | p50 | p99 | p99.9 | max |", "|---|---:|---:|---:|---:|"]
    for name, us in zip(("undisturbed", "while a fourth node joins"), part["us"]):
        lines.append(f"| {name} | " + " | ".join(f"{us[k] / 1000:.2f}" for k in ("p50", "p99", "p99_9", "max")) + " |")
    return lines


KINDS = {"table": table, "restart": restart, "failover": failover, "snapshot": snapshot}


def chart(parts):
    """Bars of the ratios at each number of clients, on a logarithmic scale; the line is 1."""
    bars = []
    for part in parts:
        if part["kind"] != "table" or part["variable"] != "clients":
            continue
        bars.append((part["title"], None))
        for row in part["rows"]:
            for i in part["others"]:
                label = f"{row['value']:,} clients / {part['columns'][i]}"
                bars.append((label, statistics.median(ratios(row["runs"][0], row["runs"][i]))))
    width, left, unit = 900, 300, 70  # `unit` pixels for a factor of two
    one = left + 2 * unit
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{len(bars) * 20 + 30}" font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="white"/>']
    for n, (label, ratio) in enumerate(bars):
        y = 20 + n * 20
        if ratio is None:
            lines.append(f'<text x="10" y="{y + 12}" font-weight="bold">{label}: ours / theirs, writes or reads a second</text>')
            continue
        x = one + max(-2.0, min(6.0, math.log2(max(ratio, 1e-9)))) * unit
        lines.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label}</text>')
        lines.append(f'<rect x="{min(x, one):.1f}" y="{y + 2}" width="{abs(x - one):.1f}" height="13" fill="{"#2a7f62" if ratio >= 1 else "#b5533c"}"/>')
        lines.append(f'<text x="{max(x, one) + 6:.1f}" y="{y + 12}">{ratio:.2f}</text>')
    lines.append(f'<line x1="{one}" y1="10" x2="{one}" y2="{len(bars) * 20 + 20}" stroke="black"/></svg>')
    return "\n".join(lines) + "\n"


def write(folder, profiles):
    lines = [HEAD, "![ratios](results.svg)", ""]
    for profile in profiles:
        for part in profile["parts"]:
            lines += [f"## {part['title']}", "", *KINDS[part["kind"]](part), ""]
        lines += [f"*`bench/run --only {profile['profile']}`, {profile['date']}: {profile['machine']}; {', '.join(profile['versions'])}; "
                  f"{profile['rounds']} rounds of {profile['seconds']:g} s; load average before: {profile['load_average']:.1f}"
                  + (" (above 0.3 something else ran meanwhile: noisier than it should be)" if profile["load_average"] > 0.3 else "") + ".*", ""]
    (folder / "RESULTS.md").write_text("\n".join(lines).strip() + "\n")
    (folder / "results.svg").write_text(chart([part for profile in profiles for part in profile["parts"]]))
