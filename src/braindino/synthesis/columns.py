"""What each column of the participants table means (the content of `participants.json`)."""

from __future__ import annotations

from typing import Any

COLUMNS: dict[str, dict[str, Any]] = {
    "participant_id": {"Description": "Synthetic subject, not a person"},
    "age": {"Description": "Age at the simulated scan", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "group": {
        "Description": "Group of subjects",
        "Levels": {name: name for name in ("healthy", "dementia", "glioma", "stroke")},
    },
    "diagnosis": {
        "Description": "Diagnosis; n/a for glioma and stroke",
        "Levels": {"healthy": "no disease", "dementia": "medial temporal atrophy beyond age"},
    },
    "site": {"Description": "Simulated scanner with its own gain, noise, voxel size and protocol"},
    "anatomy": {"Description": "Real anatomy that the subject was deformed from"},
    "idh": {
        "Description": "Isocitrate dehydrogenase status of a glioma; n/a for others",
        "Levels": {"wildtype": "IDH wildtype", "mutant": "IDH mutant"},
    },
    "survival_days": {"Description": "Time from scan to death or end of follow-up; n/a without glioma", "Units": "day"},
    "event": {
        "Description": "How survival_days ends; n/a without glioma",
        "Levels": {"0": "censored: alive at end of follow-up", "1": "death"},
    },
    "tumour_ml": {"Description": "Volume of the glioma (labels 1, 2 and 3), from the label map", "Units": "ml"},
    "days_since_stroke": {"Description": "Time from onset to scan; n/a without stroke", "Units": "day"},
    "stroke_ml": {"Description": "Volume of the infarct, from the label map", "Units": "ml"},
    "brain_ml": {
        "Description": "Grey and white matter, without lesion taken off, from tissue fractions",
        "Units": "ml",
    },
    "cortex_ml": {"Description": "Grey matter of the cortex region, from tissue fractions", "Units": "ml"},
    "ventricle_ml": {"Description": "CSF of the lateral and third ventricles, from tissue fractions", "Units": "ml"},
    "medial_temporal_ml": {
        "Description": "Grey and white matter of the medial temporal regions, from tissue fractions",
        "Units": "ml",
    },
}
