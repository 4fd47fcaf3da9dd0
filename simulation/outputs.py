"""EnergyPlus's output names and ours; and the reader of its ESO file. Nobody else knows the engine's names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from building.description import Building
from building.errors import FailedRunError
from simulation.epjson import Epjson

WEATHER = {
    "outdoor_air_temperature": "Site Outdoor Air Drybulb Temperature",
    "outdoor_air_humidity_ratio": "Site Outdoor Air Humidity Ratio",
    "outdoor_air_pressure": "Site Outdoor Air Barometric Pressure",
    "wind_speed": "Site Wind Speed",
    "direct_normal_irradiance": "Site Direct Solar Radiation Rate per Area",
    "diffuse_horizontal_irradiance": "Site Diffuse Solar Radiation Rate per Area",
}
ZONE = {"air_temperature": "Zone Mean Air Temperature", "co2": "Zone Air CO2 Concentration"}
ZONE_HUMIDITY = "Zone Mean Air Humidity Ratio"
COIL_HEAT = "Heating Coil Heating Rate"
ELECTRIC_COILS = ("Coil:Heating:Electric", "Coil:Heating:Electric:MultiStage")
METERS = {
    "coil_cooling": "CoolingCoils:EnergyTransfer",
    "cooling_electricity": "Cooling:Electricity",
    "fan_electricity": "Fans:Electricity",
    "facility_electricity": "Electricity:Facility",
    "hot_water_gas": "WaterSystems:NaturalGas",
}
FINAL_METERS = {"heating_gas": "Heating:NaturalGas", "heating_electricity": "Heating:Electricity"}
"""Final energies of the engine, for checking the efficiencies that act after the predictor."""

J_PER_HOUR_TO_W = 1 / 3600


def requested(building: Building, *, with_final: bool = False) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the Output objects that report everything a run needs, hourly."""
    variables = [("*", v) for v in (*WEATHER.values(), COIL_HEAT)]
    variables += [(z.model_name, v) for z in building.zones for v in (*ZONE.values(), ZONE_HUMIDITY)]
    meters = [*METERS.values(), *(FINAL_METERS.values() if with_final else ())]
    return {
        "Output:Variable": {
            f"v{i}": {"key_value": key, "variable_name": name, "reporting_frequency": "Hourly"}
            for i, (key, name) in enumerate(variables)
        },
        "Output:Meter": {f"m{i}": {"key_name": name, "reporting_frequency": "Hourly"} for i, name in enumerate(meters)},
    }


def read_eso(path: Path) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Read the hourly series of an ESO file.

    Returns:
        By (key, variable), upper-case key; meters have the key ``METER``. Time rows are counted under ("", "hours").
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    head, _, body = text.partition("End of Data Dictionary\n")
    names: dict[str, tuple[str, str]] = {}
    for line in head.splitlines():
        parts = line.split(",", 3)
        if len(parts) < 3 or not parts[0].isdigit() or int(parts[0]) <= 6:
            continue
        label = ",".join(parts[2:]).split(" !")[0].rsplit(" [", 1)[0]
        key, comma, variable = label.partition(",")
        names[parts[0]] = (key.upper(), variable) if comma else ("METER", label)
    values: dict[str, list[str]] = {i: [] for i in names}
    n_hours = 0
    for line in body.splitlines():
        i, _, rest = line.partition(",")
        if i == "2":
            n_hours += 1
        elif i in values:
            values[i].append(rest.partition(",")[0])
    series = {names[i]: np.array(v, dtype=float) for i, v in values.items()}
    series["", "hours"] = np.full(n_hours, 1.0)
    return series


def electric_coils(epjson: Epjson) -> set[str]:
    """Return the names of the coils that heat with electricity, upper case as the engine reports them."""
    return {name.upper() for kind in ELECTRIC_COILS for name in epjson.get(kind, {})}


def responses(
    series: dict[tuple[str, str], NDArray[np.float64]], building: Building, index: pd.DatetimeIndex, electric: Collection[str]
) -> pd.DataFrame:
    """Return weather and outputs under our names.

    Args:
        series: what `read_eso` returns.
        building: whose zones and outputs.
        index: the hours that were asked for.
        electric: see `electric_coils`; the heat of all other coils is that of gas.

    Raises:
        FailedRunError: wrong number of hours, a missing column, a value that is not a number.
    """
    n_hours = len(series["", "hours"])
    if n_hours != len(index):
        raise FailedRunError(
            reason=f"{n_hours} hours came back, {len(index)} were asked for; does the period cross 29 February?", engine=""
        )
    columns: dict[str, NDArray[np.float64]] = {}
    try:
        for name, variable in WEATHER.items():
            columns[name] = series["ENVIRONMENT", variable]
        for name, variable in ZONE.items():
            for z in building.zones:
                columns[f"{z.name}_{name}"] = series[z.model_name.upper(), variable]
        area = np.array([z.floor_area * z.multiplier for z in building.zones])
        humidity = np.stack([series[z.model_name.upper(), ZONE_HUMIDITY] for z in building.zones], axis=1)
        columns["mean_humidity_ratio"] = humidity @ area / area.sum()
        coils = {key: v for (key, variable), v in series.items() if variable == COIL_HEAT}
        none = np.zeros(n_hours)
        columns["gas_coil_heat"] = np.sum([v for k, v in coils.items() if k not in electric] or [none], axis=0)
        columns["electric_reheat_heat"] = np.sum([v for k, v in coils.items() if k in electric] or [none], axis=0)
        for name, meter in (METERS | FINAL_METERS).items():
            # What the building has no plant for, the engine has no meter for.
            if name in building.outputs or ("METER", meter) in series:
                columns[name] = series["METER", meter] * J_PER_HOUR_TO_W
    except KeyError as e:
        raise FailedRunError(reason=f"the engine did not report {e}", engine="") from e
    frame = pd.DataFrame(columns, index=index)
    if not np.isfinite(frame.to_numpy()).all():
        bad = frame.columns[~np.isfinite(frame.to_numpy()).all(axis=0)][0]
        raise FailedRunError(reason=f"'{bad}' holds values that are not numbers", engine="")
    return frame
