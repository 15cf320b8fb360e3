"""HU of real slices as pydicom and numpy give them: hu.json, for the test that reads the same files.

Needs pydicom and numpy, and the folder with the DICOM samples:

    python make_hu.py FOLDER
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
import pydicom

FILES = [
    "ge-head-series/01.dcm",
    "ge-head-series/14.dcm",
    "ge-chest-syntaxes/CTImage.dcm",
    "ge-chest-syntaxes/CTImage.dcm_BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2.dcm",
    "ge-chest-syntaxes/CTImage.dcm_DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99.dcm",
    "ge-chest-syntaxes/CTImage.dcm_LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1.dcm",
    "ge-chest-syntaxes/CTImage.dcm_LittleEndianImplicitTransferSyntax_1.2.840.10008.1.2.dcm",
    "toshiba-head-syntaxes/CT2_UNC.dcm",
]


def describe(folder, name):
    d = pydicom.dcmread(folder / name)
    syntax = d.file_meta.TransferSyntaxUID
    group_length = d.file_meta.FileMetaInformationGroupLength
    dataset = 128 + 4 + 12 + group_length
    pixels = d.get_item(0x7FE00010)
    stored = d.pixel_array.astype(np.int64)
    hu = stored * float(d.RescaleSlope) + float(d.RescaleIntercept)
    padding = d.get("PixelPaddingValue")
    if padding is not None:
        hu[stored == padding] = -1024
    hu = np.clip(np.floor(hu + 0.5), -32768, 32767).astype("<i2")
    return {
        "file": name,
        "dataset": dataset,
        "sha256": hashlib.sha256(hu.tobytes()).hexdigest(),
        "description": {
            "Rows": d.Rows, "Columns": d.Columns, "SamplesPerPixel": d.SamplesPerPixel,
            "BitsAllocated": d.BitsAllocated, "BitsStored": d.BitsStored, "HighBit": d.HighBit,
            "Signed": d.PixelRepresentation == 1, "Photometric": d.PhotometricInterpretation,
            "Rescaled": True, "Slope": float(d.RescaleSlope), "Intercept": float(d.RescaleIntercept),
            "Padding": {"Set": padding is not None, "Value": (padding or 0) & 0xFFFF},
            "Syntax": str(syntax), "BigEndian": not syntax.is_little_endian, "Deflated": syntax.is_deflated,
            # pydicom counts from the start of the file, or of what it has inflated
            "Offset": pixels.value_tell - (0 if syntax.is_deflated else dataset), "Length": len(pixels.value),
        },
    }


def main():
    here, folder = pathlib.Path(__file__).parent, pathlib.Path(sys.argv[1])
    (here / "hu.json").write_text(json.dumps([describe(folder, f) for f in FILES], indent=1) + "\n")


main()
