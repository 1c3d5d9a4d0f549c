"""The measured systems: processes on loopback, with their data under var/bench/. All are stopped by process id."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "var" / "bench"
FLOOR = FOLDER / "floor"
BINARY = pathlib.Path(os.environ.get("COTIDAL_BIN", ROOT / "build" / "cotidal"))
# Debian's redis-tools has the server's program under another name; the package redis-server would add a service.
REDIS = FOLDER / "redis-server"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def output(*command):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout.strip()


class System:
    """Processes that form one measured system."""

    def __init__(self, name):
        self.name = name
        self.folder = FOLDER / name.replace(" ", "-")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.processes = []
        self.children = []  # of them, that do the work
        self.commands = []

    def spawn(self, *command, **options):
        log = open(self.folder / f"{len(self.processes)}.log", "wb")
        process = subprocess.Popen([str(c) for c in command], stderr=log, cwd=self.folder,
                                   stdin=subprocess.DEVNULL, **({"stdout": log} | options))
        self.processes.append(process)
        self.commands.append(command)
        return process

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def pids(self):
        return [process.pid for process in self.processes] + self.children

    def find_children(self):
        children = subprocess.run(["pgrep", "-P", str(self.processes[0].pid)], capture_output=True, text=True).stdout.split()
        self.children = [int(pid) for pid in children]

    def memory_mib(self):
        """What is resident and its own, not shared with files: of a map, the page cache is not counted."""
        text = "".join(pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.pids())
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("RssAnon")) / 1024

    def kill(self, i):
        self.processes[i].kill()
        self.processes[i].wait()

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(condition, what, every=0.05, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench/run: {what} did not come up; see {FOLDER}")
        time.sleep(every)


def start_cotidal(nodes, *options):
    system = System(f"cotidal {nodes}")
    system.http, system.redis, peers = [], [], []
    for i in range(nodes):
        command = [BINARY, "serve", "--data", system.folder / f"node{i}", "--http", "127.0.0.1:0", "--redis",
                   "127.0.0.1:0", "--peer", "127.0.0.1:0", *options]
        if peers:
            command += ["--join", peers[0]]
        process = system.spawn(*command, stdout=subprocess.PIPE)
        line = process.stdout.readline().decode()
        if not line.startswith("cotidal: node "):
            raise SystemExit(f"bench/run: cotidal did not start; see {system.folder}")
        words = dict(w.split("=", 1) for w in line.split() if "=" in w)
        system.http.append(words["http"])
        system.redis.append(words["redis"])
        peers.append(words["peer"])

    def voters():
        run = subprocess.run([BINARY, "status", "--json", "--to", f"http://{system.http[0]}"], capture_output=True)
        return run.returncode == 0 and sum(m["role"] == "voter" for m in json.loads(run.stdout)["members"]) == nodes

    wait_for(voters, system.name)
    status = json.loads(output(BINARY, "status", "--json", "--to", f"http://{system.http[0]}"))
    by_http = {m["http"]: m["id"] for m in status["members"]}
    system.leader = next(i for i, address in enumerate(system.http) if by_http.get(address) == status["leader"])
    return system


def start_redis(nodes):
    system = System(f"redis {nodes}")
    ports = [free_port() for _ in range(nodes)]
    for i, port in enumerate(ports):
        data = system.folder / f"data{i}"
        data.mkdir()
        command = [REDIS, "--port", port, "--bind", "127.0.0.1", "--dir", data, "--save", "", "--appendonly", "yes",
                   "--appendfsync", "always"]
        if i:
            command += ["--replicaof", "127.0.0.1", ports[0]]
        system.spawn(*command)

    def replicas():
        run = subprocess.run(["redis-cli", "-p", str(ports[0]), "INFO", "replication"], capture_output=True, text=True)
        return run.stdout.count("state=online") == nodes - 1 and "role:master" in run.stdout

    wait_for(replicas, system.name)
    system.redis = [f"127.0.0.1:{ports[0]}"]
    return system


def start_etcd(nodes):
    system = System(f"etcd {nodes}")
    clients = [free_port() for _ in range(nodes)]
    peers = [free_port() for _ in range(nodes)]
    members = ",".join(f"n{i}=http://127.0.0.1:{p}" for i, p in enumerate(peers))
    for i in range(nodes):
        system.spawn("etcd", "--name", f"n{i}", "--data-dir", system.folder / f"data{i}", "--listen-client-urls",
                     f"http://127.0.0.1:{clients[i]}", "--advertise-client-urls", f"http://127.0.0.1:{clients[i]}",
                     "--listen-peer-urls", f"http://127.0.0.1:{peers[i]}", "--initial-advertise-peer-urls",
                     f"http://127.0.0.1:{peers[i]}", "--initial-cluster", members)

    def healthy():
        env = dict(os.environ, ETCDCTL_API="3")
        endpoints = ",".join(f"127.0.0.1:{p}" for p in clients)
        return subprocess.run(["etcdctl", "--endpoints", endpoints, "endpoint", "health"], env=env, capture_output=True,
                              timeout=20).returncode == 0

    wait_for(healthy, system.name)
    system.grpc = [f"127.0.0.1:{p}" for p in clients]
    return system


def start_floor():
    """Three processes that only read, flush and answer (bench/floor.c)."""
    system = System("the floor")
    process = system.spawn(FLOOR, system.folder, stdout=subprocess.PIPE)
    system.redis = [f"127.0.0.1:{int(process.stdout.readline())}"]
    system.find_children()
    return system


def start_site():
    """One node that serves a site of two files, with one thread."""
    system = start_cotidal(1, "--threads", "1")
    files = site_files(system)
    output(BINARY, "deploy", files, "--to", f"http://{system.http[0]}")
    system.url = f"http://{system.http[0]}/"
    wait_for(lambda: subprocess.run(["curl", "-fs", "-o", os.devnull, system.url + "64k.bin"]).returncode == 0, "the site")
    return system


def site_files(system):
    files = system.folder / "files"
    files.mkdir()
    (files / "1k.bin").write_bytes(os.urandom(1024))
    (files / "64k.bin").write_bytes(os.urandom(65536))
    files.chmod(0o755)
    return files


def start_file_server(name, configuration, program, *arguments):
    system = System(name)
    port, files = free_port(), site_files(system)
    (system.folder / "conf").write_text(configuration.format(port=port, files=files, folder=system.folder))
    system.spawn(program, *arguments, system.folder / "conf")
    system.url = f"http://127.0.0.1:{port}/"
    wait_for(lambda: subprocess.run(["curl", "-fs", "-o", os.devnull, system.url + "1k.bin"]).returncode == 0, name)
    system.find_children()
    return system


NGINX = """daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error; user root;
events {{ worker_connections 16000; multi_accept on; }}
http {{ access_log off; sendfile on; tcp_nopush PUSH; tcp_nodelay on; keepalive_requests 1000000000; open_file_cache max=1000 inactive=1h;
server {{ listen 127.0.0.1:{port} backlog=4096; root {files}; }} }}
"""
H2O = """listen: {{ host: 127.0.0.1, port: {port} }}
user: root
num-threads: 1
max-connections: 16000
http1-request-timeout: 60
pid-file: {folder}/pid
error-log: {folder}/error
hosts: {{ default: {{ paths: {{ "/": {{ file.dir: {files} }} }} }} }}
"""


def start_nginx(push):
    return start_file_server(f"nginx push {push}", NGINX.replace("PUSH", push), "nginx", "-c")


def start_h2o():
    return start_file_server("h2o", H2O, "h2o", "-c")
