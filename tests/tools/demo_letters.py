"""Letters written for the demo corpus: the only personal data in it, and all of it made up.

Numbers and addresses are from ranges set aside for examples, tests and drama: example.org and the
like (RFC 2606), 192.0.2.0/24 and its kin (RFC 5737, RFC 3849), 555-01xx and its counterparts in
Britain, Germany and France, card numbers and IBANs out of the documentation of their makers.
"""

LETTERS: tuple[tuple[str, str], ...] = (
    (
        "en",
        """Subject: The missing crate of lemon marmalade

Dear Mr Okonkwo,

Thank you for the friendly note about your last order. I looked at the papers this morning and you
are quite right: the driver left two crates at the shop on the corner and none at your door. We are
sorry for the trouble. A fresh crate will go out with the van on Thursday, and it will not cost you
a penny.

If nobody is at home between nine and noon, please call me on +44 20 7946 0321 or write to
marmalade.orders@example.org, and we will find another day that suits you. The money for the first
delivery went back to the card that ends your receipt, 4111 1111 1111 1111, on Monday evening.

With kind regards from the whole kitchen,
Harriet Lowe
""",
    ),
    (
        "en",
        """Subject: Who has been knocking at the server?

Hello everybody,

this is what I have found in the logs of the weekend. From Friday at ten in the evening somebody has
tried to log in about every four seconds, first from 203.0.113.77 and then, when that address had
been blocked, from 198.51.100.14 and from 2001:db8:4::8a2e:370:7334. None of these attempts went
through, since passwords have been switched off on that machine for a year.

I have told the provider, and I will keep an eye on it until the end of the week. If your own
connection should be refused, then please send the time and your address to night.watch@example.net
or ring the duty phone, (212) 555-0187, and we will let you back in.

Cheers,
Tomasz
""",
    ),
    (
        "en",
        """Subject: Rent for the allotment garden

Dear neighbours,

as we agreed at the meeting in March, the rent for the gardens behind the railway will go up by four
pounds a year, the first time since the new water pipe was laid. Please pay it by the end of April
to the account of the club, GB82 WEST 1234 5698 7654 32, and write the number of your garden into
the message, because last year we had three payments that nobody could tell apart.

The key to the shed hangs where it always hangs. Whoever takes the long ladder should bring it back
before the evening. Questions go to the treasurer at allotment.treasurer@example.com as ever, and
the seeds that were ordered together can be fetched from Mrs Pell on Saturday after two.

Yours,
the committee
""",
    ),
    (
        "zh",
        """主题:关于上周六读书会的安排

各位朋友:

大家好!上周六的读书会来了二十多位朋友,比我们想象的热闹得多,谢谢大家冒着大雨赶来。下一次活动定在本月最后一个星期日下午两点,地点还是图书馆三楼的小会议室,请大家提前读完这本书的前五章,并且准备一个自己最想讨论的问题。

如果您打算带孩子一起参加,请在星期三以前告诉我们,我们好准备椅子和茶水。报名请写信给 dushuhui@example.org,或者打电话 +86 10 5550 0123 找王老师。参加活动不收费,书可以在图书馆借到,也可以向我们借。

祝大家周末愉快!
读书会 小林
""",
    ),
    (
        "zh",
        """主题:退款已经办好

尊敬的陈女士:

您好!您在本月三日购买的茶具在运输途中损坏,我们对此深表歉意。经过核对照片和物流记录,我们已经为您办理了全额退款,款项会在五个工作日以内退回您付款时使用的银行卡 5555 5555 5555 4444。您不需要把损坏的茶具寄回来,请放心处理。

如果到下周五还没有收到退款,请回复这封信,或者联系我们的客服信箱 kefu@example.com ,我们会马上帮您查询。另外,我们随信附上一张优惠券,希望下次能让您满意。再次感谢您的理解和支持!

此致
敬礼
瓷器小店
""",
    ),
    (
        "zh",
        """主题:办公室网络维护通知

各位同事:

为了提高网络的稳定性,技术部将在本周五晚上九点到十一点更换机房的交换机。维护期间,办公室的有线网络和打印机都不能使用,请大家提前保存好文件。内部网站会临时改到 203.0.113.25 这个地址,维护结束以后恢复原来的地址,不需要大家做任何设置。

如果星期一早上仍然不能上网,请先重新启动电脑,再检查网线是否插好。问题还没有解决的话,请发邮件到 jishu@example.net 说明您的座位号码和出现的错误信息,我们会按照先后顺序逐一处理。给大家带来不便,敬请谅解。

技术部
""",
    ),
    (
        "de",
        """Betreff: Ihr Fahrrad ist fertig

Sehr geehrte Frau Brandt,

Ihr Fahrrad steht wieder auf zwei gesunden Rädern in unserer Werkstatt. Wir haben die Kette und das
hintere Ritzel erneuert, die Bremsen eingestellt und das Licht repariert, dessen Kabel von einer Maus
angenagt worden war. Die Rechnung über 84 Euro können Sie bar bezahlen oder auf das Konto
DE89 3704 0044 0532 0130 00 überweisen.

Abholen können Sie es von Dienstag bis Samstag zwischen neun und achtzehn Uhr. Falls Sie es lieber
gebracht haben möchten, rufen Sie uns bitte unter +49 30 23125 417 an oder schreiben Sie an
werkstatt@example.org, dann kommt unser Lehrling damit am Abend bei Ihnen vorbei.

Mit freundlichen Grüßen
Ihre Radwerkstatt am Kanal
""",
    ),
    (
        "fr",
        """Objet : la chorale cherche des voix graves

Chères amies, chers amis,

la chorale du quartier prépare pour le mois de juin un concert de chansons de marins, et il nous
manque encore trois voix graves. Il n'est pas nécessaire de savoir lire la musique : nous apprenons
tout à l'oreille, et le chef est d'une patience d'ange. Les répétitions ont lieu le mardi soir dans
la salle derrière la mairie, de sept heures et demie à neuf heures.

Pour venir essayer, il suffit d'écrire à choeur.du.port@example.org ou de laisser un message au
+33 1 99 00 47 12. La cotisation de vingt euros se verse sur le compte de l'association,
FR14 2004 1010 0505 0001 3M02 606, et elle comprend le dîner qui suit le concert.

À mardi, nous l'espérons,
le bureau de la chorale
""",
    ),
    (
        "es",
        """Asunto: la cámara que se quedó en el autobús

Estimado señor Ibáñez:

Nos alegra decirle que la cámara que usted olvidó el domingo en el autobús de la sierra apareció
ayer debajo de un asiento, seca y sin un rasguño. La tenemos guardada en la oficina de objetos
perdidos de la estación, donde puede recogerla cualquier día de nueve a dos con un documento que
lleve su fotografía.

Si prefiere que se la enviemos, escriba por favor a objetos.perdidos@example.com con la dirección
completa, o llame al +34 91 555 0123 y pregunte por Marta. El envío cuesta seis euros y se puede
pagar con tarjeta; la que usted nos dio, 3782 822463 10005, sigue en nuestro sistema hasta el
viernes y después se borra.

Un saludo muy cordial,
Transportes del Valle
""",
    ),
)
