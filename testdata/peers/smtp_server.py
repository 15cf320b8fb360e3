"""A mail server for the tests of alerts/mail: smtp_server.py PORT CERT KEY.

It wants STARTTLS and then a login (ichwatch, s3cret). A recipient whose name
begins with "nobody" is refused, one with "later" put off. What it takes it prints,
one JSON object in a line.
"""

import json
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later"):
            return "451 4.3.0 try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": session.ssl is not None,
            "data": envelope.content.decode("ascii"),
        }), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    ok = mechanism == "PLAIN" and data.login == b"ichwatch" and data.password == b"s3cret"
    return AuthResult(success=ok, handled=False)


port, cert, key = sys.argv[1:]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(cert, key)
Controller(
    Handler(), hostname="127.0.0.1", port=int(port), tls_context=context,
    require_starttls=True, auth_required=True, authenticator=authenticate,
).start()
print("ready", flush=True)
threading.Event().wait()
