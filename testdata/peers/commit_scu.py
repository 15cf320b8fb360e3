"""python commit_scu.py HOST PORT CALLED-AE [REPORT-PORT | later] <REQUEST

Asks for storage commitment with pynetdicom, as a scanner does, and prints the report. The request is JSON, a list of
pairs of SOP class UID and SOP instance UID; the report is an object with the lists "committed" of SOP instance UIDs and
"failed" of pairs of SOP instance UID and Failure Reason. With REPORT-PORT the association is released at once and the
report is taken there, over another one, on which the caller must have taken the role of an SCP. With "later" it is
refused over the first association, and taken over another one that is opened for it.
"""

import json
import queue
import sys

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

INSTANCE = "1.2.840.10008.1.20.1.1"

host, port, called, *where = sys.argv[1:]
later = where == ["later"]
request = Dataset()
request.TransactionUID = generate_uid()
request.ReferencedSOPSequence = []
for sop_class, sop_instance in json.load(sys.stdin):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, sop_instance
    request.ReferencedSOPSequence.append(item)
reports = queue.Queue()


def reported(event):
    reports.put((event.event_type, event.event_information))
    return 0x0000, None


ae = AE(ae_title="PYNETDICOM")
ae.add_requested_context(StorageCommitmentPushModel)
handlers = [(evt.EVT_N_EVENT_REPORT, reported)]
server = None
if where and not later:
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    server = ae.start_server(("127.0.0.1", int(where[0])), block=False, evt_handlers=handlers)
association = ae.associate(host, int(port), ae_title=called, evt_handlers=[] if later else handlers)
if not association.is_established:
    sys.exit("no association")
status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, INSTANCE)
if "Status" not in status or status.Status != 0:
    sys.exit(f"N-ACTION answered with {status}")
if where:
    association.release()
if later:
    association = ae.associate(host, int(port), ae_title=called, evt_handlers=handlers)
event_type, report = reports.get(timeout=60)
while report.TransactionUID != request.TransactionUID:  # one whose answer was lost with its association is told again
    event_type, report = reports.get(timeout=60)
if server:
    server.shutdown()
else:
    association.release()
failed = [[f.ReferencedSOPInstanceUID, f.FailureReason] for f in report.get("FailedSOPSequence", [])]
if event_type != (2 if failed else 1):
    sys.exit(f"Event Type {event_type}")
print(json.dumps({"committed": [r.ReferencedSOPInstanceUID for r in report.get("ReferencedSOPSequence", [])], "failed": failed}))
