"""One request to a webhook: signed, to a checked address, and never for long."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from cluster.ids import DeliveryId, TenantId, WebhookId
from cluster.state.resources.webhooks import Delivery, Webhook
from cluster.webhooks.post import MAX_ANSWER_BYTES, Poster
from tests.support.webhooks.receiver import receiving, say

SECRETS = ("whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "=")
TENANT = TenantId("acme")
DELIVERY = Delivery(
    id=DeliveryId("dl-" + "0" * 32 + "-7"),
    tenant=TENANT,
    type="render.done",
    at_s=1_800_000_000.25,
    data='{"id": "r-1"}',
    state="waiting",
    num_tries=1,
    num_failures=0,
    tried_s=None,
    status=None,
    detail="",
)


def hook(url: str) -> Webhook:
    return Webhook(
        id=WebhookId("wh-" + "0" * 32),
        tenant=TENANT,
        url=url,
        events=(),
        note="",
        created_s=0.0,
        num_dropped=0,
        secrets=SECRETS,
    )


def poster(*, answer_s: float = 60.0, allow_private: bool = True, tls: ssl.SSLContext | None = None) -> Poster:
    return Poster(tls=tls or ssl.create_default_context(), answer_s=answer_s, allow_private=allow_private)


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def test_what_is_told_verifies_under_each_secret_and_no_other(receiver):
    outcome = poster().tell(hook(receiver.url), DELIVERY)
    assert (outcome.state, outcome.status) == ("delivered", 204)
    sent = receiver.next()
    for secret in SECRETS:
        told = Verifier(secret).verify(sent.body, sent.headers)
        assert told == {"type": "render.done", "timestamp": "2027-01-15T08:00:00.250000Z", "data": {"id": "r-1"}}
    with pytest.raises(WebhookVerificationError):
        Verifier("whsec_" + "C" * 43 + "=").verify(sent.body, sent.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRETS[0]).verify(sent.body.replace("r-1", "r-2"), sent.headers)
    assert sent.headers["webhook-id"] == str(DELIVERY.id)
    assert sent.headers["host"].startswith("localhost:")
    assert sent.path == "/hooks?of=me"
    assert json.loads(sent.body)


def test_an_inner_address_is_not_told_unless_a_setting_allows_it(receiver):
    url = receiver.url.replace("http://", "https://")
    outcome = poster(allow_private=False).tell(hook(url), DELIVERY)
    assert outcome.state == "failed"
    assert "public" in outcome.detail
    assert receiver.came.empty()


def test_a_redirect_is_not_followed(receiver):
    receiver.answer = say(307, Location=receiver.url + "&again=1")
    outcome = poster().tell(hook(receiver.url), DELIVERY)
    assert (outcome.state, outcome.status) == ("failed", 307)
    assert receiver.next().path == "/hooks?of=me"
    assert receiver.came.empty()


def test_an_answer_that_is_too_long_is_not_read(receiver):
    receiver.answer = say(200, b"x" * (MAX_ANSWER_BYTES + 1))
    assert "bytes" in poster().tell(hook(receiver.url), DELIVERY).detail
    receiver.answer = say(200, b"x" * MAX_ANSWER_BYTES)
    assert poster().tell(hook(receiver.url), DELIVERY).state == "delivered"


def test_an_answer_that_comes_byte_by_byte_ends_at_the_limit(receiver):
    def drip(handler, sent):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not receiver.going_on.wait(0.02):
            handler.wfile.write(b"x")

    receiver.answer = drip
    outcome = poster(answer_s=1.0).tell(hook(receiver.url), DELIVERY)
    assert (outcome.state, outcome.detail) == ("failed", "no answer within 1 s")


def test_an_answer_that_is_no_http_and_a_closed_port_are_failures(receiver):
    receiver.answer = lambda handler, sent: handler.wfile.write(b"hello\r\n\r\n")
    assert poster().tell(hook(receiver.url), DELIVERY).state == "failed"
    with receiving() as closed:
        url = closed.url
    assert poster().tell(hook(url), DELIVERY).state == "failed"
    assert poster().tell(hook("http://no-such-name.invalid/"), DELIVERY).state == "failed"


def certified(tmp_path, name: x509.GeneralName) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS of a server whose certificate is for a name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "both.pem").write_bytes(pem + secret)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


def test_the_certificate_must_be_of_the_name_although_the_connection_goes_to_an_address(tmp_path):
    server, client = certified(tmp_path, x509.DNSName("localhost"))
    with receiving(server) as receiver:
        assert poster(tls=client).tell(hook(receiver.url), DELIVERY).state == "delivered"
        assert poster().tell(hook(receiver.url), DELIVERY).state == "failed"  # whom nobody trusts


@pytest.mark.parametrize("name", [x509.DNSName("other.example"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
def test_a_certificate_of_another_name_is_refused(tmp_path, name):
    server, client = certified(tmp_path, name)
    with receiving(server) as receiver:
        outcome = poster(tls=client).tell(hook(receiver.url), DELIVERY)
        assert outcome.state == "failed"
        assert receiver.came.empty()
