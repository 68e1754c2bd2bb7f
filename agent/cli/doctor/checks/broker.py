"""Can the broker be reached, does it let the unit in, and may the unit do what it must?"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator

from agent.cli.doctor.finding import Finding, Patient, Say
from agent.cli.doctor.mqtt_probe import Answer, MqttProbe, RefusedError
from agent.config import Broker

TIMEOUT_S = 5.0


def check(patient: Patient, say: Say) -> Iterator[Finding]:
    """See `agent.cli.doctor.finding.Check`.

    A running agent is asked, for a broker may know a client by its name or certificate and would throw the
    agent off. Without one, each broker is tried.
    """
    if patient.status is not None:
        link = patient.status.get("link", {})
        if link.get("connected"):
            yield say.good(str(link.get("endpoint")), "the agent is connected, and its rights are granted")
        else:
            why = link.get("last_failure") or "not yet tried"
            yield say.bad(
                str(link.get("endpoint")), f"the agent is not connected: {why}", "see coverage, host and port"
            )
        return
    for broker in patient.known.uplink.brokers:
        yield from _tried(broker, patient, say)


def _tried(broker: Broker, patient: Patient, say: Say) -> Iterator[Finding]:
    unit = patient.known.unit
    where = f"{broker.host}:{broker.port}"
    topics = f"ems/v1/{unit.agency}/{unit.unit}"
    rights: dict[str, Callable[[MqttProbe], Answer]] = {
        "hear commands": lambda probe: probe.subscribe(f"{topics}/command/+"),
        "hear receipts": lambda probe: probe.subscribe(f"{topics}/receipt"),
        "send its state": lambda probe: probe.publish(f"{topics}/state/doctor"),
        "answer commands": lambda probe: probe.publish(f"{topics}/reply/doctor"),
        "send its journal": lambda probe: probe.publish(f"{topics}/journal/doctor"),
    }
    try:
        for number, (what, ask) in enumerate(rights.items()):
            # A connection each: some brokers hang up on a client that asked for too much.
            with MqttProbe(broker, f"mdt-doctor-{unit.unit}", TIMEOUT_S) as probe:
                if number == 0:
                    yield say.good(where, "it can be reached and lets the unit in")
                answer = ask(probe)
            if answer.is_allowed:
                yield say.good(where, f"{unit.unit} may {what}")
            else:
                yield say.bad(
                    where,
                    f"{unit.unit} may not {what}: {answer.words}",
                    "its access rules: config/broker/mdt.acl; is the unit's name the same there?",
                )
    except RefusedError as error:
        yield say.bad(where, f"it says no: {error}", "user, password and certificate: are they this unit's?")
    except ssl.SSLCertVerificationError as error:
        yield say.bad(
            where, f"its certificate is not trusted: {error.verify_message}", "ca_file, host, and the clock"
        )
    except ssl.SSLError as error:
        yield say.bad(
            where,
            f"TLS failed: {error.reason or error}",
            "is this the port for TLS, and the certificate right?",
        )
    except ConnectionResetError:
        do = "is this the port for TLS?" if broker.tls is not None else "does it speak MQTT 5, without TLS?"
        yield say.bad(where, "it hangs up", do)
    except socket.gaierror:
        yield say.bad(where, "nobody knows this name", "is the host spelt right, is there a network?")
    except OSError as error:
        why = error.strerror or str(error) or "it does not answer"
        yield say.bad(
            where, f"not reached: {why}", "is there coverage, are host and port right, does the broker run?"
        )
