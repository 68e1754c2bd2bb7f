"""A city's ambulance service: many units, one dispatch, a day of calls, in time that costs nothing."""
