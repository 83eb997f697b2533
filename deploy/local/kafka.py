"""One Apache Kafka server in KRaft mode, broker and controller in one process, from the jars of pom.xml."""

from __future__ import annotations

import base64
import shutil
import signal
import uuid
from pathlib import Path

from jars import resolve
from processes import PATIENCE, Process, Refused, admin_password, answers, free_port, run, tail, wait

HERE = Path(__file__).resolve().parent
JARS = HERE.parent.parent / ".services" / "jars"  # shared by all folders of data
HEAP = "512m"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners={protocol}://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={protocol}://127.0.0.1:{port}
inter.broker.listener.name={protocol}
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocol}:{protocol},CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""

# Who is not `admin` may do what access rules allow, and nothing else. The controller's listener is this process's own.
SECURED = """\
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="admin" password="{password}";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
"""


class Kafka:
    """Its data, ports, pid and log are in `folder/kafka`; `secured`, the password of its user `admin` too."""

    name = "kafka"

    def __init__(self, folder: Path, *, secured: bool = False) -> None:
        self.secured = secured
        self.folder = folder / "kafka"
        self.process = Process(self.folder / "pid")
        self.log = self.folder / "server.log"

    def lines(self, product: bool) -> dict[str, str]:
        """The variables that name it: the product's setting, or the tests' variable."""
        server = f"127.0.0.1:{(self.folder / 'port').read_text()}"
        return {"EXCHANGE_BROKER__URL": f"kafka://{server}"} if product else {"EXCHANGE_TEST_KAFKA": server}

    def start(self) -> None:
        """Start it and wait until it answers. Raises Refused."""
        java = shutil.which("java")
        if java is None:
            raise Refused("Kafka needs Java 17 or newer: install Debian's package openjdk-17-jre-headless")
        resolve(HERE / "pom.xml", JARS)
        self.folder.mkdir(parents=True, exist_ok=True)
        data, config = self.folder / "data", self.folder / "server.properties"
        port, controller = free_port(self.folder / "port"), free_port(self.folder / "controller-port")
        protocol = "SASL_PLAINTEXT" if self.secured else "PLAINTEXT"
        settings = PROPERTIES.format(port=port, controller=controller, data=data, protocol=protocol)
        users = []
        if self.secured:
            password = admin_password(self.folder)
            settings += SECURED.format(password=password)
            users = ["--add-scram", f"SCRAM-SHA-512=[name=admin,password={password}]"]
        config.touch(mode=0o600)
        config.write_text(settings)
        program = [java, f"-Xmx{HEAP}", f"-Xms{HEAP}", "-Djava.awt.headless=true"]
        program += ["-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", f"{JARS}/*"]
        if not (data / "meta.properties").exists():
            first, *rest = uuid.uuid4().bytes
            # Without its first bit it begins with a letter: one that begins with a hyphen is taken for an option.
            cluster = base64.urlsafe_b64encode(bytes([first & 0x7F, *rest])).decode().rstrip("=")
            done = run([*program, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(config), *users])
            if done.returncode:
                raise Refused(f"Kafka's storage could not be formatted:\n{done.stdout}{done.stderr}")
        self.process.start([*program, "kafka.Kafka", str(config)], self.log)
        if not wait(lambda: self.process.running() is None or answers(port), PATIENCE):
            self.stop()
        if self.process.running() is None:
            raise Refused(f"Kafka did not start; the end of {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.stop(signal.SIGTERM)
