"""Energy, cost, emissions and peaks: from what a predictor answers to what meters count.

A predictor answers at the reference efficiencies; the building's own act afterwards (`final_power`). HVAC energy is site kWh of
fans, cooling electricity, reheat electricity and heating gas; hot water stays outside. The ``*_tot`` names, and per floor
area, are those of BOPTEST (Blum et al. 2021, J. Build. Perf. Sim. 14(5), doi:10.1080/19401493.2021.1986574).

Legend of shapes: b batch, t time (last axis), o outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Carrier, Efficiency
from building.errors import MissingColumnError, ShapeError, UnknownNameError, did_you_mean
from building.variables import Signature

Array = NDArray[np.float64]

HVAC_OUTPUTS = ("gas_coil_heat", "electric_reheat_heat", "cooling_electricity", "fan_electricity")
"""The outputs HVAC energy is made of."""


@dataclass(frozen=True)
class FinalPower:
    """Final power by use at the building's own efficiencies [W, hourly means], each of shape (..., time)."""

    fans: Array
    cooling: Array
    reheat: Array
    heating_gas: Array
    hot_water_gas: Array
    facility_electricity: Array

    @property
    def hvac_electricity(self) -> Array:
        """Fans, cooling and reheat [W]."""
        return self.fans + self.cooling + self.reheat

    @property
    def hvac(self) -> Array:
        """Fans, cooling, reheat and heating gas [W]."""
        return self.hvac_electricity + self.heating_gas

    def hvac_by_carrier(self) -> dict[str, Array]:
        """HVAC power of each carrier [W]."""
        return {"electricity": self.hvac_electricity, "gas": self.heating_gas}

    def facility_by_carrier(self) -> dict[str, Array]:
        """What the meters of the whole building see [W]."""
        return {"electricity": self.facility_electricity, "gas": self.heating_gas + self.hot_water_gas}


def final_power(y_bto: Array, outputs: Signature, efficiency: Efficiency) -> FinalPower:
    """Turn delivered into final power.

    Gas = gas-coil heat / burner efficiency. Reheat coils are resistances: electricity = heat. Cooling electricity scales with
    reference COP / COP, fan electricity with pressure / reference pressure (same flow, same fan efficiency); facility electricity
    changes by both differences. The heat a fan of another pressure puts into the air is left out.

    Args:
        y_bto: predictions, shape (..., time, outputs), W.
        outputs: their channels. A plant the building does not have (no gas coil, no hot water) counts as zero.
        efficiency: reference and own values.

    Raises:
        MissingColumnError: not one of HVAC_OUTPUTS is predicted, or no facility electricity.
        ShapeError: `y_bto` does not have `outputs` channels.
    """
    if y_bto.shape[-1] != len(outputs):
        raise ShapeError(what="the predictions", shape=y_bto.shape, wanted=f"(..., time, {len(outputs)})")
    missing = [n for n in HVAC_OUTPUTS if n not in outputs]
    if len(missing) == len(HVAC_OUTPUTS) or "facility_electricity" not in outputs:
        wanted = (*HVAC_OUTPUTS, "facility_electricity")
        missing = [n for n in wanted if n not in outputs]
        raise MissingColumnError(what="the predictor", n_missing=len(missing), n_wanted=len(wanted), missing=", ".join(missing))

    def channel(name: str) -> Array:
        return y_bto[..., outputs.position(name)] if name in outputs else np.zeros(y_bto.shape[:-1])

    fans_at_reference, cooling_at_reference = channel("fan_electricity"), channel("cooling_electricity")
    fans = fans_at_reference * (efficiency.fan_pressure / efficiency.reference_fan_pressure)
    cooling = cooling_at_reference * (efficiency.reference_cooling_cop / efficiency.cooling_cop)
    return FinalPower(
        fans=fans,
        cooling=cooling,
        reheat=channel("electric_reheat_heat"),
        heating_gas=channel("gas_coil_heat") / efficiency.burner,
        hot_water_gas=channel("hot_water_gas"),
        facility_electricity=channel("facility_electricity") + (fans - fans_at_reference) + (cooling - cooling_at_reference),
    )


def energy_kwh(power_bt: Array, step_h: float = 1.0) -> Array:
    """Sum power [W] over time to energy [kWh], shape (..., time) -> (...)."""
    return np.asarray(power_bt.sum(axis=-1) * (step_h / 1000))


def hvac_energy_kwh(y_bto: Array, outputs: Signature, efficiency: Efficiency, step_h: float = 1.0) -> Array:
    """Return HVAC energy [site kWh], shape (..., time, outputs) -> (...): fans + cooling + reheat + heating gas."""
    return energy_kwh(final_power(y_bto, outputs, efficiency).hvac, step_h)


def ener_tot(power_by_carrier: Mapping[str, Array], floor_area: float, step_h: float = 1.0) -> Array:
    """BOPTEST ``ener_tot``: site energy of all carriers per floor area [kWh/m2], shape (..., time) -> (...)."""
    return np.asarray(sum(energy_kwh(p, step_h) for p in power_by_carrier.values()) / floor_area)


def cost_tot(
    power_by_carrier: Mapping[str, Array],
    carriers: Mapping[str, Carrier],
    floor_area: float,
    local_hour_t: NDArray[np.int64] | None = None,
    step_h: float = 1.0,
) -> Array:
    """BOPTEST ``cost_tot``: energy cost per floor area [currency/m2], shape (..., time) -> (...).

    Args:
        power_by_carrier: power of each carrier [W], shape (..., time).
        carriers: price by carrier; `price_by_hour` (24 local hours) wins over `price`.
        floor_area: m2.
        local_hour_t: hour of the building's wall clock of each step (`local_hours`); needed by hourly prices.
        step_h: hours per step.

    Raises:
        UnknownNameError: a carrier without a price.
        ShapeError: an hourly price, but no local hours.
    """
    total: Array = np.zeros(())
    for name, power in power_by_carrier.items():
        carrier = _carrier(carriers, name)
        price: float | Array = carrier.price
        if carrier.price_by_hour is not None:
            if local_hour_t is None:
                raise ShapeError(what=f"the local hours for the hourly price of {name}", shape=(), wanted=(power.shape[-1],))
            price = np.asarray(carrier.price_by_hour, dtype=float)[local_hour_t]
        total = total + energy_kwh(power * price, step_h)
    return np.asarray(total / floor_area)


def emis_tot(
    power_by_carrier: Mapping[str, Array], carriers: Mapping[str, Carrier], floor_area: float, step_h: float = 1.0
) -> Array:
    """BOPTEST ``emis_tot``: emissions per floor area [kg CO2e/m2], shape (..., time) -> (...). Raises UnknownNameError."""
    total: Array = np.zeros(())
    for name, power in power_by_carrier.items():
        total = total + energy_kwh(power, step_h) * _carrier(carriers, name).emission
    return np.asarray(total / floor_area)


def pele_tot(electricity_bt: Array, floor_area: float) -> Array:
    """BOPTEST ``pele_tot``: peak electric power per floor area [kW/m2], shape (..., time) -> (...).

    BOPTEST takes 15-minute means; the peak here is that of the steps given (hourly means of a metamodel read lower).
    """
    return np.asarray(electricity_bt.max(axis=-1) / 1000 / floor_area)


def pgas_tot(gas_bt: Array, floor_area: float) -> Array:
    """BOPTEST ``pgas_tot``: peak gas power per floor area [kW/m2], shape (..., time) -> (...); see `pele_tot`."""
    return np.asarray(gas_bt.max(axis=-1) / 1000 / floor_area)


def local_hours(index: pd.DatetimeIndex, time_zone: str) -> NDArray[np.int64]:
    """Return the wall-clock hour 0..23 of each UTC stamp, shape (time,)."""
    return np.asarray(index.tz_convert(time_zone).hour, dtype=np.int64)


def _carrier(carriers: Mapping[str, Carrier], name: str) -> Carrier:
    if name not in carriers:
        raise UnknownNameError(name=name, kind="carrier", owner="building.toml", hint=did_you_mean(name, carriers))
    return carriers[name]
