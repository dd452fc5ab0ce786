"""The recordings that the embedded default is trained on and judged by, with their categories: tables made by hand.

Whole sources are held out: an acoustic kit, kits of the sound font, programs, sessions. No training sound shares a
recording with a held-out one.
"""

PACKAGES = ("sonic-pi-samples", "fluid-soundfont-gm", "hydrogen-drumkits")
"""Packages of Debian; the last one only for rumpf_kit."""

SONIC_PI = {
    "kick": """bd_808 bd_ada bd_boom bd_fat bd_gas bd_haus bd_klub bd_mehackit bd_pure bd_sone bd_tek bd_zome bd_zum
        drum_bass_hard drum_bass_soft drum_heavy_kick elec_hollow_kick elec_soft_kick""",
    "snare": """drum_snare_hard drum_snare_soft elec_filt_snare elec_hi_snare elec_lo_snare elec_mid_snare elec_snare
        sn_dolf sn_dub sn_generic sn_zome""",
    "clap": "perc_snap perc_snap2",
    "closed_hat": "drum_cymbal_closed drum_cymbal_pedal",
    "open_hat": "drum_cymbal_open elec_cymbal",
    "tom": """drum_tom_hi_hard drum_tom_hi_soft drum_tom_lo_hard drum_tom_lo_soft drum_tom_mid_hard drum_tom_mid_soft
        elec_fuzz_tom""",
    "cymbal": "drum_cymbal_hard drum_cymbal_soft drum_splash_hard drum_splash_soft",
    "perc": """drum_cowbell elec_bell elec_blip elec_blip2 elec_blup elec_bong elec_flip elec_ping elec_plip elec_pop
        elec_tick elec_triangle elec_twip elec_wood perc_bell perc_bell2 perc_door perc_impact1
        perc_impact2 perc_swash perc_till glitch_perc2 glitch_perc3 glitch_perc4 glitch_perc5 tabla_dhec
        tabla_ghe1 tabla_ghe2 tabla_ghe3 tabla_ghe4 tabla_ghe5 tabla_ghe6 tabla_ghe7 tabla_ghe8 tabla_ke1
        tabla_ke2 tabla_ke3 tabla_na tabla_na_o tabla_na_s tabla_re tabla_tas1 tabla_tas2 tabla_tas3
        tabla_te1 tabla_te2 tabla_te_m tabla_te_ne tabla_tun1 tabla_tun2 tabla_tun3""",
    "bass": """bass_dnb_f bass_drop_c bass_hard_c bass_hit_c bass_thick_c bass_trance_c bass_voxy_c bass_voxy_hit_c
        bass_woodsy_c glitch_bass_g""",
    "synth": "ambi_piano elec_beep elec_chime elec_twang guit_e_fifths guit_em9 guit_harmonics",
    "texture": """ambi_choir ambi_dark_woosh ambi_drone ambi_glass_hum ambi_glass_rub ambi_haunted_hum ambi_lunar_land
        ambi_sauna ambi_soft_buzz ambi_swoosh loop_drone_g_97 misc_cineboom vinyl_hiss""",
}
SONIC_PI_SLICES = (
    ("loop_compus", 89_088, 98_560, "closed_hat"),
    ("loop_industrial", 14_592, 19_456, "closed_hat"),
    ("loop_mehackit1", 77_568, 88_576, "open_hat"),
)
"""Isolated single sounds in a loop: first frame, end, category. There are few other hats."""

# Excluded: loop_*, except one drone and three hats; glitch_perc1, glitch_robot* and mehackit_*, which are phrases;
# misc_burp, misc_crow, guit_e_slide, perc_swoosh and vinyl_*, which fit no category, except the vinyl's hiss, a
# texture; drum_roll, which has many strokes.
SONIC_PI_HELD_OUT = """drum_* sn_dolf bd_boom bd_zome perc_snap2 elec_cymbal tabla_te* tabla_tun* bass_dnb_f
    bass_thick_c bass_voxy* ambi_piano guit_harmonics ambi_haunted_hum ambi_sauna ambi_lunar_land"""
"""Patterns of the names of held-out samples."""

# --- Fluid (R3) General MIDI ------------------------------------------------------------------------------------

DRUM_NOTES = {
    "kick": (35, 36),
    "snare": (38, 40),
    "clap": (28, 39),
    "closed_hat": (42, 44),
    "open_hat": (46,),
    "tom": (41, 43, 45, 47, 48, 50),
    "cymbal": (49, 51, 52, 53, 55, 57, 59),
    "perc": (31, 37, 54, 56, 58, *range(60, 71), *range(73, 88)),
}
"""Notes of the General MIDI percussion key map; 39 is a hand clap, 28 a slap."""

NOT_AS_MAPPED = {(25, 44), *((kit, note) for kit in (40, 41, 42) for note in (39, 40))}
NOT_AS_MAPPED |= {(48, note) for note in (28, *range(41, 54))}
"""(kit, note) where a kit has another instrument: an open hat, brushes, timpani."""

DRUM_VELOCITIES = (122, 85, 45)

PROGRAMS: dict[
    str, dict[tuple[int, int], tuple[int | tuple[int, ...], ...]]
] = {  # (bank, program): notes; a tuple of notes is a chord
    "bass": {(0, p): (28, 33, 38, 43, 48) for p in (32, 33, 34, 35, 36, 37, 38, 39)}
    | {(8, 38): (28, 36, 43), (8, 39): (31, 38, 45), (0, 87): (33, 40), (0, 58): (34, 41), (0, 81): (28, 40)},
    "tom": {
        (0, 116): (38, 45, 52),
        (0, 117): (41, 48, 55),
        (8, 117): (43, 50),
        (0, 118): (40, 48, 55),
        (8, 118): (45,),
    },
    "perc": {
        (0, 112): (60, 72),
        (0, 113): (60, 67),
        (0, 115): (55, 67),
        (8, 115): (60,),
        (8, 116): (43,),
        (0, 47): (43,),
    },
    "texture": {(0, p): (45, 57, 69) for p in (91, 92, 93, 94, 95, 97, 101, 103)}
    | {(0, p): (60,) for p in (122, 125, 126)}
    | {(0, 52): (52, 64), (0, 53): (50, 62), (0, 49): ((45, 52, 60), 57)},
    "synth": {
        (0, p): (48, 60, 67, 76)
        for p in (2, 4, 5, 6, 7, 8, 10, 11, 12, 15, 24, 25, 27, 45, 46, 98, 104, 105, 107, 108, 114)
    }
    | {
        (0, p): (45, 57, 69, (48, 55, 63))
        for p in (16, 17, 18, 50, 51, 54, 62, 63, 80, 81, 82, 83, 84, 86, 87, 88, 89, 90)
    }
    | {(8, p): (52, 64, (50, 57, 65)) for p in (5, 6, 16, 62, 63, 80)}
    | {
        (0, 0): (36, 60, 84),
        (0, 9): (72, 84),
        (0, 13): (67, 79),
        (0, 14): (60, 72),
        (0, 28): (40, 52),
        (0, 55): (48, 60, 72),
        (0, 85): (57, 67),
        (0, 96): (60, 72),
        (0, 99): (55, 67),
        (0, 100): (52, (52, 59, 64)),
        (0, 102): (60, 72),
    },
}
"""Other rendered notes by bank and program."""

PROGRAM_VELOCITIES = {"bass": (115, 70), "tom": (115, 70), "perc": (100,), "texture": (100,), "synth": (100,)}

TONAL_RANGES = {"bass": (26, 50), "synth": (45, 84)}
"""Keys over which the programs of a category are rendered as single notes of known pitch."""

FLUID_HELD_OUT = """Elec?Kick* Electronic?Snr* ElectTom Power?Kick* Room?Kick RmPwr* 808?Clap 808?Closed?Hat
    808?Cowbell 808?Clave Splash Ride2 Vibra?Slap Tambourine Low?Timbale Short?Taiko* 808?Tom* Fretless* Pop?* SB2*
    dulci* Harp* Vibraphone* Calliope* Sbrass* SynthVz* Rock?Organ* Clean?F* Xylophone* Koto* Sweeper* Sea?Shore"""
"""Patterns of recordings in the sound font. A note that plays one of these is held out, whatever its kit or program; a
note that also plays a recording of a training sound is excluded."""

# --- rumpf_kit --------------------------------------------------------------------------------------------------

RUMPF_LEFT_OUT = """beats_01-11 beats_01-12 beats_01-13 beats_01-14 beats_01-15 beats_01-16 beats_06-50
    beats_07-13 beats_01-20 beats_01-22 beats_01-36 beats_01-37 beats_06-32 beats_06-33 beats_06-37 beats_08-12
    beats_08-14 beats_08-17 beats_08-18 beats_08-19 beats_08-20 beats_08-22"""
"""Handling noise below 30 Hz; rumbles and double thuds that are neither kick nor tom nor percussion."""

RUMPF = {
    "kick": """beats_05-17 beats_06-31 beats_06-38 beats_06-46 beats_07-16 beats_07-18 beats_07-20 beats_07-21
        beats_08-25 beats_08-26""",
    "clap": "beats_01-26 beats_01-28",
    "closed_hat": "beats_09-10",
    "texture": "beats_01-18 beats_01-19",
}
"""Sounds like drums, most of them named so by their author; all others are percussion."""

RUMPF_HELD_OUT = "beats_05* beats_08*"
"""Two of the nine sessions."""
