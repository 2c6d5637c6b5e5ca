"""Writes small DICOM series, whose every pixel is known and whose patient has a name that must not get out."""

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

CANARY = "Canary^Jane"
SHAPE, SPACING = (20, 24, 12), (2.0, 3.0, 4.0)
AXES = {"axial": ((1, 0, 0), (0, 1, 0)), "sagittal": ((0, 1, 0), (0, 0, -1)), "oblique": ((1, 0, 0), (0, 0.8, 0.6))}


def series(folder, *, axes="axial", number=3, echo=1, kind=("ORIGINAL", "PRIMARY", "M", "ND"), gain=1, image=None):
    """A small MR series: file `z` is the plane z, whose pixel (row r, column c) has the value 100 + c + 3 r + 50 z.

    With `image` (column, row, z) its values instead.
    """
    columns, rows, slices = SHAPE if image is None else image.shape
    right, down = (np.array(a, float) for a in AXES[axes])
    normal = np.cross(right, down)
    study = "1.2.826.0.1.3680043.8.498.1"
    folder.mkdir(exist_ok=True)
    for z in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[axes, str(number), str(echo), str(z), str(kind)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        one.PatientName, one.PatientID, one.AccessionNumber = CANARY, "canary-id", "canary-acc"
        one.PatientBirthDate, one.StudyDate, one.StudyTime = "19500102", "20200304", "101112"
        one.Modality, one.Manufacturer, one.ImageType = "MR", "SIEMENS", list(kind)
        one.StudyInstanceUID, one.SeriesInstanceUID = study, f"{study}.{number}"
        one.SeriesNumber, one.InstanceNumber, one.AcquisitionNumber = number, z + 1, 1
        one.ProtocolName, one.SeriesDescription = "t1 mprage", "t1 mprage"
        one.EchoTime, one.EchoNumbers, one.RepetitionTime = 3.0 * echo, echo, 2000
        one.MagneticFieldStrength, one.FrameOfReferenceUID = 3, f"{study}.9"
        one.ImageOrientationPatient = [*right, *down]
        one.ImagePositionPatient = [float(x) for x in np.array([-20.0, -30.0, 5.0]) + normal * SPACING[2] * z]
        one.PixelSpacing, one.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        one.Rows, one.Columns, one.BitsAllocated, one.BitsStored, one.HighBit = rows, columns, 16, 16, 15
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PixelRepresentation = 1, "MONOCHROME2", 0
        r, c = np.mgrid[:rows, :columns]
        plane = gain * (100 + c + 3 * r + 50 * z) if image is None else image[:, :, z].T
        one.PixelData = plane.astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"{number}-{echo}-{kind[2]}-{z}.dcm", one, enforce_file_format=True)
    return folder
