"""Before the guest maintains a TLB or a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.tlbi import TLBI
from lab.errors import UserError
from lab.faults.near import nearest
from lab.faults.parameter import parameter
from lab.faults.triggers.nth import NthInContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.a64.system import Operation
    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments

_CLASSES: Final[dict[str, type[TLBI | DC | IC | AT]]] = {"TLBI": TLBI, "DC": DC, "IC": IC, "AT": AT}
_NAMES: Final = {
    *_CLASSES,
    *(
        f"{name} {operation.name}"
        for name, operations in _CLASSES.items()
        for operation in operations
        if operation is not DC.ZVA
    ),
}


@dataclass(frozen=True, slots=True)
class Maintenance(NthInContext):
    """Before the guest's Nth TLBI, DC, IC or AT, which it may still be kept from executing.

    DC ZVA is a store: see ``access``.
    """

    name: ClassVar[str] = "maintenance"

    operation: str = parameter("TLBI, DC, IC or AT; or one of them, such as TLBI VAE1IS")

    def __post_init__(self) -> None:
        """Check the parameters."""
        super(Maintenance, self).__post_init__()
        if self.operation not in _NAMES:
            raise UserError(
                f"Maintenance: there is no operation {self.operation!r}"
                f"{nearest(self.operation, _NAMES)}"
            )

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        count = self.counting(moments)
        kind, _, name = self.operation.partition(" ")
        class_ = _CLASSES[kind]

        def asked(vcpu: VCPU, operation: Operation) -> bool:
            right = isinstance(operation, class_) and name in ("", operation.name)
            return right and count(vcpu)

        return moments.maintaining(asked, fire)
