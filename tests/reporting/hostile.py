"""What a product, a customer or a study may be called by someone who means harm."""

HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(2)> [x](javascript:alert(3)) **bold** "
    "\"quoted\" & 'single' `code` http://evil.example www.evil.example $1 and $2 | # _i_"
)
