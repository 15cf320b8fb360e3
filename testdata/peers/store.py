"""python store.py PORT FOLDER

Accepts every storage SOP class in the transfer syntax proposed, with pynetdicom, and writes each data set as it came.
"""

import pathlib
import sys

from pydicom import uid
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

port, folder = sys.argv[1:]
syntaxes = [u for u in uid.UID_dictionary if uid.UID(u).type == "Transfer Syntax"]


def store(event):
    (pathlib.Path(folder) / event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
    return 0x0000


ae = AE(ae_title="PYNETDICOM")
ae.maximum_pdu_size = 0  # no limit
ae.add_supported_context(Verification)
for context in AllStoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, syntaxes)
ae.start_server(("127.0.0.1", int(port)), evt_handlers=[(evt.EVT_C_STORE, store)])
