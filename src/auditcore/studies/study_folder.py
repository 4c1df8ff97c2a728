"""The folder of a study: weights, reports of trainings and audits; a study that was interrupted goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import final

from auditcore.contracts.canonical_json import digest_of, sha256
from auditcore.contracts.plan import Seed
from auditcore.contracts.report import AuditReport
from auditcore.contracts.studies.plan import StudyRequest
from auditcore.contracts.training.report import TrainingReport
from auditcore.errors import InvalidRequest
from auditcore.report.reading import read_report
from auditcore.report.serialize import report_bytes
from auditcore.whole_files import write_whole


@final
class StudyFolder:
    """Keeps what is done. A file is there as a whole or not at all; InvalidRequest says that one cannot be written.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, request: StudyRequest) -> None:
        """Open or create the folder of a study.

        Args:
            path: The folder.
            request: With pinned models.

        Raises:
            InvalidRequest: It holds another study.
        """
        self.path = path
        for part in ("weights", "trainings", "audits"):
            (path / part).mkdir(parents=True, exist_ok=True)
        known = path / "request.json"
        data = request.model_dump_json(indent=2).encode()
        if not known.exists():
            self._write(known, data)
        elif digest_of(StudyRequest.model_validate_json(known.read_bytes())) != digest_of(request):
            msg = f"{path} holds another study; name an empty folder, or the one of this study to go on with it"
            raise InvalidRequest(msg, field="out")

    def weights(self, method: str, seed: Seed) -> Path:
        """Where the weights of a trained model are."""
        return self.path / "weights" / f"{method}-{seed}.safetensors"

    def training(self, method: str, seed: Seed) -> TrainingReport | None:
        """The report of a training that is done, if its weights are whole."""
        path, weights = self._training(method, seed), self.weights(method, seed)
        if not (path.exists() and weights.exists()):
            return None
        report = TrainingReport.model_validate_json(path.read_bytes())
        return report if sha256(weights.read_bytes()) == report.trained.weights else None

    def keep_training(self, method: str, seed: Seed, report: TrainingReport, weights: bytes) -> None:
        """Keep a trained model: the weights first, so that a report stands for a whole result."""
        self._write(self.weights(method, seed), weights)
        self._write(self._training(method, seed), report.model_dump_json(indent=2).encode())

    def audit(self, seed: Seed) -> AuditReport | None:
        """The audit of the models of a seed, if it is done."""
        path = self._audit(seed)
        return read_report(path.read_bytes()) if path.exists() else None

    def keep_audit(self, seed: Seed, report: AuditReport) -> None:
        """Keep an audit."""
        self._write(self._audit(seed), report_bytes(report))

    def keep_report(self, data: bytes, tables: str) -> None:
        """Keep the report of the study and its tables."""
        self._write(self.path / "tables.md", tables.encode())
        self._write(self.path / "study.json", data)

    def _training(self, method: str, seed: Seed) -> Path:
        return self.path / "trainings" / f"{method}-{seed}.json"

    def _audit(self, seed: Seed) -> Path:
        return self.path / "audits" / f"{seed}.json"

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
        except OSError as error:
            msg = f"{path} cannot be written ({error.strerror}); make room, and go on with the same folder"
            raise InvalidRequest(msg, field="out") from error
