"""python send.py HOST PORT CALLED-AE FILE...

Sends files with pynetdicom, each in the transfer syntax it is in. Exits 1 unless all were answered with success.
"""

import sys

from pydicom import dcmread
from pynetdicom import AE

host, port, called, *files = sys.argv[1:]
datasets = [dcmread(f) for f in files]
ae = AE(ae_title="PYNETDICOM")
for pair in sorted({(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}):
    ae.add_requested_context(*pair)
association = ae.associate(host, int(port), ae_title=called)
if not association.is_established:
    sys.exit("no association")
statuses = [association.send_c_store(d) for d in datasets]
association.release()
failed = [f for f, s in zip(files, statuses) if "Status" not in s or s.Status != 0]
if failed:
    sys.exit(f"not stored: {failed}")
