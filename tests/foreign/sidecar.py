"""An installation with development certificates, and its sidecar while it runs."""

import atexit
import os
import subprocess
import time

import grpc

PATIENCE = 60
FIRST = "audit/segment-00000000000000000000.log"
SETTINGS = [
    ('address_file = ""', 'address_file = "address"'),
    # Short, so that a segment is full during a run.
    ("segment_mib = 64", "segment_mib = 1"),
    # What is shredded may be erased at once.
    ("shred_window_least_hours = 24", "shred_window_least_hours = 0"),
]


class Failed(Exception):
    pass


class Installation:
    def __init__(self, binary, home):
        self.binary, self.home = binary, home
        self.state = os.path.join(self.home, "state")
        self.config = os.path.join(self.home, "fieldseal.toml")
        self.log = os.path.join(self.home, "serve.log")
        made = subprocess.run(
            [binary, "init", "--dir", self.home, "--listen", "127.0.0.1:0", "--dev-certificates"],
            capture_output=True, check=False)
        if made.returncode:
            raise Failed(made.stderr.decode())
        with open(self.config, encoding="utf-8") as file:
            text = file.read()
        for old, new in SETTINGS:
            if old not in text:
                raise Failed(f"the configuration has no {old}")
            # The first address file is that of the callers.
            text = text.replace(old, new, 1)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)
        # As long as those that will follow; it holds nothing yet.
        os.truncate(os.path.join(self.state, FIRST), 1 << 20)

    def start(self, tracer=(), environment=None):
        """A process that is ready, and its address; or what it said instead."""
        address = os.path.join(self.home, "address")
        if os.path.exists(address):
            os.remove(address)
        with open(self.log, "wb") as log:
            process = subprocess.Popen(
                [*tracer, self.binary, "serve", "--config", self.config],
                stdout=subprocess.DEVNULL, stderr=log, env=os.environ | (environment or {}))
            # Whatever goes wrong, none outlives this.
            atexit.register(process.kill)
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if os.path.exists(address) and os.path.getsize(address):
                with open(address, encoding="ascii") as file:
                    return process, file.read().strip()
            time.sleep(0.005)
        process.kill()
        process.wait()
        raise Failed(f"it does not start: {self.said()[-400:]}")

    def said(self):
        """The log lines of the last process."""
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def channel(self, address, who):
        def read(name):
            with open(os.path.join(self.home, "tls", name), "rb") as file:
                return file.read()
        identity = grpc.ssl_channel_credentials(
            read("ca.pem"), read(f"{who}.key"), read(f"{who}.pem"))
        # Channels to one address share a connection otherwise, whoever the caller is.
        return grpc.secure_channel(address, identity, [("grpc.use_local_subchannel_pool", 1)])

    def verified(self):
        return subprocess.run(
            [self.binary, "audit", "verify", "--log", os.path.join(self.state, "audit"),
             "--public-key", os.path.join(self.state, "audit/log.pub")],
            capture_output=True, check=False)
