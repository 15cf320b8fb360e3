"""python commit_scp.py PORT FOLDER HOST REPORT-PORT CALLED-AE

An archive with pynetdicom that commits itself to what it holds. It stores as store.py does, uncompressed objects alone,
and brings the report on each request for storage commitment to HOST and REPORT-PORT over an association of its own, as
SCP.
"""

import pathlib
import sys
import threading

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

INSTANCE = "1.2.840.10008.1.20.1.1"

port, folder, host, report_port, called = sys.argv[1:]


def store(event):
    (pathlib.Path(folder) / event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
    return 0x0000


def report(request):
    answer = Dataset()
    answer.TransactionUID = request.TransactionUID
    answer.ReferencedSOPSequence, failed = [], []
    for item in request.ReferencedSOPSequence:
        if (pathlib.Path(folder) / item.ReferencedSOPInstanceUID).exists():
            answer.ReferencedSOPSequence.append(item)
        else:
            item.FailureReason = 0x0112
            failed.append(item)
    if failed:
        answer.FailedSOPSequence = failed
    reporter = AE(ae_title="PYNETDICOM")
    reporter.add_requested_context(StorageCommitmentPushModel)
    association = reporter.associate(
        host, int(report_port), ae_title=called, ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)]
    )
    if association.is_established:
        association.send_n_event_report(answer, 2 if failed else 1, StorageCommitmentPushModel, INSTANCE)
        association.release()


def action(event):
    threading.Thread(target=report, args=(event.action_information,)).start()
    return 0x0000, None


ae = AE(ae_title="PYNETDICOM")
ae.add_supported_context(Verification)
ae.add_supported_context(StorageCommitmentPushModel)
for context in AllStoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax)
ae.start_server(("127.0.0.1", int(port)), evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, action)])
