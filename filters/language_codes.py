"""Labels of fastText language models as BCP-47 tags (RFC 5646).

lid.176 has Wikipedia's codes, GlotLID and OpenLID have ISO 639-3 with an ISO 15924 script. BCP-47
wants the shortest code of a language, and no script where the language has a usual one.
"""

from __future__ import annotations

from functools import lru_cache

_PREFIX = "__label__"

# ISO 639-3 (and the main member of a macrolanguage) -> ISO 639-1; two columns a word.
_SHORT = dict(
    pair.split(":")
    for pair in """
    aar:aa abk:ab afr:af aka:ak amh:am ara:ar arb:ar arg:an asm:as ava:av ave:ae aym:ay ayr:ay
    aze:az azj:az bak:ba bam:bm bel:be ben:bn bis:bi bod:bo bos:bs bre:br bul:bg cat:ca ces:cs
    cha:ch che:ce chu:cu chv:cv cmn:zh cor:kw cos:co cre:cr cym:cy dan:da deu:de div:dv dzo:dz
    ekk:et ell:el eng:en epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fry:fy
    ful:ff gla:gd gle:ga glg:gl glv:gv grn:gn gug:gn guj:gu hat:ht hau:ha hbs:sh heb:he her:hz
    hin:hi hmo:ho hrv:hr hun:hu hye:hy ibo:ig ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik
    isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khk:mn khm:km kik:ki
    kin:rw kir:ky kmr:ku kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln
    lit:lt ltz:lb lub:lu lug:lg lvs:lv mah:mh mal:ml mar:mr mkd:mk mlg:mg mlt:mt mon:mn mri:mi
    msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no npi:ne
    nya:ny oci:oc oji:oj ori:or orm:om ory:or oss:os pan:pa pbt:ps pes:fa pli:pi plt:mg pol:pl
    por:pt pus:ps que:qu quy:qu roh:rm ron:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slv:sl
    sme:se smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq als:sq srd:sc srp:sr ssw:ss sun:su
    swa:sw swe:sv swh:sw tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl fil:tl tha:th tir:ti ton:to
    tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz uzn:uz ven:ve vie:vi vol:vo
    wln:wa wol:wo xho:xh ydd:yi yid:yi yor:yo zha:za zho:zh zsm:ms zul:zu
    """.split()
)

# Languages that are usually written in one script; the tag then has none.
_USUAL_SCRIPT = {
    language: script
    for script, languages in {
        "Latn": "aa "
        "ab af ak an ay bi bm br bs ca ce ch co cs cy da de ee en eo es et eu ff fi fj fo "
        "fr fy ga gd gl gn gv ha ho hr ht hu hz ia id ie ig ik io is it jv kg ki kj kl kr kw "
        "la lb lg li ln lt lu lv mg mh mi ms mt na nb nd ng nl nn no nr nv ny oc om pl pt qu "
        "rm rn ro rw sc se sg sk sl sm sn so sq ss st su sv sw tk tl tn to tr ts tw ty uz ve "
        "vi vo wa wo xh yo za zu az",
        "Cyrl": "av ba be bg cu cv kk kv ky mk mn os ru sr tg tt uk",
        "Arab": "ar fa ks ku ps sd ug ur",
        "Deva": "hi mr ne pi sa",
        "Beng": "as bn",
        "Ethi": "am ti",
        "Hebr": "he yi",
        "Tibt": "bo dz",
        "Grek": "el",
        "Thaa": "dv",
        "Gujr": "gu",
        "Armn": "hy",
        "Jpan": "ja",
        "Geor": "ka",
        "Khmr": "km",
        "Knda": "kn",
        "Kore": "ko",
        "Laoo": "lo",
        "Mlym": "ml",
        "Mymr": "my",
        "Orya": "or",
        "Guru": "pa",
        "Sinh": "si",
        "Taml": "ta",
        "Telu": "te",
        "Thai": "th",
        "Hani": "zh",
        "Yiii": "ii",
        "Cans": "cr iu oj",
    }.items()
    for language in languages.split()
} | {"ab": "Cyrl", "ce": "Cyrl", "ku": "Latn"}

# GlotLID's script of a language where it is not the usual name of it.
_SCRIPT_ALIASES = {("ja", "Hira"): "Jpan", ("ja", "Kana"): "Jpan", ("ko", "Hang"): "Kore"}

# Wikipedia's codes that mean another language in ISO 639, or none.
_WIKIPEDIA = {"als": "gsw", "eml": "egl", "bh": "bho", "nah": "nah"}


@lru_cache(maxsize=8192)
def bcp47(label: str) -> str:
    """BCP-47 tag of a model's label, with or without fastText's prefix.

    >>> bcp47("__label__zh"), bcp47("__label__zho_Hans"), bcp47("__label__eng_Latn")
    ('zh', 'zh-Hans', 'en')
    """
    label = label.removeprefix(_PREFIX)
    language, _, script = label.replace("-", "_").partition("_")
    if not script:
        return _WIKIPEDIA.get(language) or _SHORT.get(language, language)
    language = _SHORT.get(language, language)
    script = _SCRIPT_ALIASES.get((language, script), script)
    return language if _USUAL_SCRIPT.get(language) == script else f"{language}-{script}"
